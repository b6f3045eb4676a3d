# SPDX-License-Identifier: GPL-3.0-or-later
"""How a daemon ends: the rules, and the stage poststop and the sweep that go by them."""
