//! NodeView to nftables over raw netlink, conntrack clean-up, and a fake kernel.
