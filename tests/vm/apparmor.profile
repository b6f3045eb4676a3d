# A container may all but write below /forbidden.
profile box flags=(attach_disconnected, mediate_deleted) {
    file,
    capability,
    network,
    signal,
    ptrace,
    unix,
    mount,
    deny /forbidden/** w,
}

# A container may what this names. The SSH daemon starts before the runtime has made the container's root the process's
# own: chroot_relative makes a path of it what it is for the container already then.
profile box-named flags=(attach_disconnected, mediate_deleted, chroot_relative) {
    capability,
    network,
    signal,
    ptrace,
    unix,
    / r,
    /{bin,etc,usr,proc}/** r,
    /{dev,home,opt}/** rw,
    /bin/* ix,
    /usr/bin/ssh ix,
    /opt/oci-hooks/ssh/dropbear/bin/* ix,
}

# The same, without that.
profile box-absolute flags=(attach_disconnected, mediate_deleted) {
    capability,
    network,
    signal,
    ptrace,
    unix,
    / r,
    /{bin,etc,usr,proc}/** r,
    /{dev,home,opt}/** rw,
    /bin/* ix,
    /usr/bin/ssh ix,
    /opt/oci-hooks/ssh/dropbear/bin/* ix,
}
