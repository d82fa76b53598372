//! What can go wrong between us and the kernel.

use std::io;

/// A failed call of the dataplane. Nothing of the transaction has taken effect.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No netlink socket: the kernel lacks nfnetlink or the process may not use it.
    #[error(
        "cannot open a netfilter netlink socket; the kernel needs CONFIG_NETFILTER_NETLINK and \
         the process CAP_NET_ADMIN in its network namespace"
    )]
    Open(#[source] io::Error),
    /// Sending or receiving failed.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The system's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel refused one message of a transaction, hence all of them.
    #[error("the kernel refused to {doing} ({position} of {total} messages); nothing was changed")]
    Refused {
        /// The message in words, such as "add chain ip portolan prerouting".
        doing: String,
        /// Which message, counted from 1.
        position: usize,
        /// Messages in the transaction.
        total: usize,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
    /// The kernel's answer could not be understood.
    #[error("cannot read the kernel's answer while trying to {doing}: {reason}")]
    Answer {
        /// What was being done.
        doing: &'static str,
        /// What was wrong with it.
        reason: String,
    },
    /// [`crate::Fake`] refused a transaction.
    #[error("the fake kernel refused a transaction: {0}")]
    Faked(String),
}
