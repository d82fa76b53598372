//! The files that nodes, the client and pods see in place of the host's.

use std::fmt::{self, Write as _};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::AddressPlan;
use crate::launch::{Mount, Root};

/// `/etc/hosts` of nodes and the client: they know each other by name.
pub(crate) fn hosts(nodes: u16) -> String {
    let mut text = localhost();
    for index in 0..nodes {
        add(&mut text, &AddressPlan::node(index), &AddressPlan::node_name(index));
    }
    add(&mut text, &AddressPlan::client(), "client");
    text
}

/// `/etc/hosts` of a pod.
pub(crate) fn pod_hosts(addresses: &[IpAddr], hostname: &str) -> String {
    let mut text = localhost();
    add(&mut text, addresses, hostname);
    text
}

/// What `/etc/resolv.conf` says; its text by `to_string`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resolver {
    pub(crate) nameservers: Vec<String>,
    pub(crate) searches: Vec<String>,
    pub(crate) options: Vec<String>,
}

impl Resolver {
    /// Of a pod with `dnsPolicy: ClusterFirst`, and of nodes (without a namespace, so that only
    /// full names resolve there).
    pub(crate) fn cluster(namespace: Option<&str>) -> Self {
        let domain = AddressPlan::DOMAIN;
        let (searches, options) = match namespace {
            Some(namespace) => (
                vec![
                    format!("{namespace}.svc.{domain}"),
                    format!("svc.{domain}"),
                    domain.to_owned(),
                ],
                "ndots:5",
            ),
            None => (Vec::new(), "timeout:1"),
        };
        let nameservers = AddressPlan::dns().iter().map(ToString::to_string).collect();
        Self { nameservers, searches, options: vec![options.to_owned()] }
    }
}

impl fmt::Display for Resolver {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        for nameserver in &self.nameservers {
            writeln!(to, "nameserver {nameserver}")?;
        }
        for (word, list) in [("search", &self.searches), ("options", &self.options)] {
            if !list.is_empty() {
                writeln!(to, "{word} {}", list.join(" "))?;
            }
        }
        Ok(())
    }
}

/// A root that shows these texts as `/etc/hosts`, `/etc/resolv.conf` and `/etc/hostname`. The
/// files are written to `folder`.
///
/// # Errors
/// When `folder` cannot be written.
pub(crate) fn root(
    folder: &Path,
    hostname: &str,
    hosts: &str,
    resolv_conf: &str,
) -> io::Result<Root> {
    let base = folder.join("root");
    fs::create_dir_all(&base)?;
    let mut mounts = Vec::new();
    for (name, text, optional) in [
        ("hosts", hosts, false),
        ("resolv.conf", resolv_conf, true),
        ("hostname", &format!("{hostname}\n"), true),
    ] {
        let source = folder.join(name);
        fs::write(&source, text)?;
        mounts.push(Mount {
            source,
            target: PathBuf::from("/etc").join(name),
            read_only: false,
            optional,
        });
    }
    Ok(Root { base, hostname: hostname.to_owned(), mounts })
}

fn localhost() -> String {
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned()
}

fn add(text: &mut String, addresses: &[IpAddr], name: &str) {
    for address in addresses {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{address}\t{name}");
    }
}
