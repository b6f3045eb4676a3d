"""Settings of Sphinx for the documentation's site. `make docs` builds it: docs/site/build."""

import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "files" / "hook"))

from ssh_hook import VERSION

project = "ocihooks.ssh"
copyright = "the ocihooks.ssh contributors"
version = release = VERSION

extensions = ["myst_parser", "sphinx_antsibull_ext"]
root_doc = "index"
nitpicky = True
default_role = "any"
highlight_language = "none"
# Guides link to headings of each other, down to the third level.
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
antsibull_ext_color_scheme = "default-autodark"

# Labels of Ansible's own documentation that the reference names, and where they are. Sphinx would download a list of
# all labels; this one has the form of such a list, so that a build needs no network.
ANSIBLE = "https://docs.ansible.com/projects/ansible/latest/"
LABELS = {
    "action_plugins": "plugins/action.html Action plugins",
    "ansible_collections.ansible.builtin.file_module": "collections/ansible/builtin/file_module.html file",
    "ansible_collections.ansible.builtin.inventory_hostnames_lookup": (
        "collections/ansible/builtin/inventory_hostnames_lookup.html inventory_hostnames"
    ),
    "ansible_collections.ansible.builtin.setup_module": "collections/ansible/builtin/setup_module.html setup",
    "ansible_collections.ansible.builtin.systemd_service_module": (
        "collections/ansible/builtin/systemd_service_module.html systemd_service"
    ),
    "ansible_collections.ansible.builtin.user_module": "collections/ansible/builtin/user_module.html user",
    "ansible_configuration_settings": "reference_appendices/config.html Ansible Configuration Settings",
    "common_return_values": "reference_appendices/common_return_values.html Return Values",
}
inventory = Path(__file__).parent / "ansible.inv"
inventory.write_bytes(
    b"# Sphinx inventory version 2\n# Project: Ansible\n# Version: latest\n"
    b"# The remainder of this file is compressed using zlib.\n"
    + zlib.compress("".join(f"{name} std:label -1 {place}\n" for name, place in LABELS.items()).encode())
)
extensions.append("sphinx.ext.intersphinx")
intersphinx_mapping = {"ansible": (ANSIBLE, str(inventory))}

html_theme = "furo"
html_title = f"ocihooks.ssh {version}"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False
html_use_index = False
html_theme_options = {
    "source_repository": "https://github.com/ocihooks/ssh/",
    "source_branch": "main",
    "top_of_page_buttons": [],
}
