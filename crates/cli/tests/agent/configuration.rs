//! The configuration file: the agent ends when it changes, and what needs root comes before.

use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::api::Api;
use crate::kernel::{maps, programmed};
use crate::place::{block_on, inside, run};
use crate::process::{Process, portolan, until};

/// A KubeProxyConfiguration in a folder as the kubelet mounts ConfigMaps.
pub(crate) fn mount(folder: &Path, version: &str, files: &[(&str, String)]) {
    std::fs::create_dir(folder.join(version)).expect("can be made");
    for (name, text) in files {
        std::fs::write(folder.join(version).join(name), text).expect("can be written");
        let link = folder.join(name);
        if !link.is_symlink() {
            let target = Path::new("..data").join(name);
            std::os::unix::fs::symlink(target, link).expect("can be linked");
        }
    }
    std::os::unix::fs::symlink(version, folder.join("..data_tmp")).expect("can be linked");
    std::fs::rename(folder.join("..data_tmp"), folder.join("..data")).expect("can be moved");
}

/// As kubeadm writes it, with further fields.
pub(crate) fn configuration(kubeconfig: &Path, fields: &str) -> String {
    format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n\
         clientConnection: {{kubeconfig: '{}'}}\nclusterCIDR: 10.244.0.0/16\n\
         healthzBindAddress: 127.0.0.1:10256\n{fields}",
        kubeconfig.display()
    )
}

#[test]
fn a_config_map_that_changes_ends_the_agent_and_leaves_the_rules() {
    // D48; kube-proxy ends as well.
    if !inside("configuration::a_config_map_that_changes_ends_the_agent_and_leaves_the_rules") {
        return;
    }
    block_on(async {
        let api = Api::start().await;
        api.node("10.244.0.0/24").await;
        api.service("web", "10.244.0.2").await;
        let kubeconfig = api.kubeconfig("agent", &json!({"token": "T"}));
        let folder = api.folder.path().join("mounted");
        std::fs::create_dir(&folder).expect("can be made");
        let next = |version: &str, fields: &str| {
            mount(&folder, version, &[("config.conf", configuration(&kubeconfig, fields))]);
        };
        next("..1", "mode: nftables\n");
        let name = SocketAddr::from_abstract_name("portolan-test").expect("is a name");
        let manager = UnixDatagram::bind_addr(&name).expect("is free in this namespace");
        manager.set_nonblocking(true).expect("can be set");
        let start = || {
            let mut command = portolan(&["agent", "--hostname-override=node1", "--config"]);
            command.arg(folder.join("config.conf")).env("NOTIFY_SOCKET", "@portolan-test");
            Process::start(command)
        };
        let mut agent = start();
        programmed("10.244.0.2").await;

        // The same in other words, then something that makes no sense: neither ends it.
        next("..2", "# with a comment\nmode: nftables\n");
        next("..3", "mode: nftables\nmood: good\n");
        agent.says("unknown field mood").await;
        assert!(agent.is_running());

        next("..4", "mode: nftables\nnodePortAddresses: [localhost]\n");
        let status = agent.ends().await;
        assert_eq!(status.code(), Some(1), "so that Restart=on-failure starts it again, too");
        let line = agent.says("config.conf has changed").await;
        assert!(line.starts_with("error: "), "{line}");
        let told = std::iter::from_fn(|| {
            let mut text = [0; 512];
            let length = manager.recv(&mut text).ok()?;
            Some(String::from_utf8_lossy(&text[..length]).into_owned())
        });
        let told: Vec<String> = told.collect();
        assert!(told.iter().any(|text| text.starts_with("READY=1")), "{told:?}");
        assert_eq!(told.last().map(String::as_str), Some("STOPPING=1\n"), "{told:?}");
        assert!(maps().contains("10.244.0.2"), "traffic goes on");

        let _next = start();
        let localnet = || run("cat", &["/proc/sys/net/ipv4/conf/all/route_localnet"]);
        until("the new configuration counts", || (localnet() == "1\n").then_some(())).await;
    });
}

#[test]
fn systemd_accepts_the_unit() {
    let test = "configuration::systemd_accepts_the_unit";
    let Some(analyze) = testkit::program("systemd-analyze") else {
        return testkit::skip(test, "the program systemd-analyze is not here");
    };
    let unit = include_str!("../../../../deploy/systemd/portolan-agent.service");
    assert!(unit.contains("Type=notify\n") && unit.contains("WatchdogSec="));
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan-agent.service");
    let unit = unit.replace("/usr/local/bin/portolan", env!("CARGO_BIN_EXE_portolan"));
    std::fs::write(&path, unit).expect("can be written");
    let output = Command::new(analyze).args(["verify", "--man=no"]).arg(&path).output();
    let output = output.expect("can start");
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !text.contains("portolan-agent"), "{text}");
}

#[test]
fn initializing_sets_what_needs_root_and_ends() {
    // D41.
    if !inside("configuration::initializing_sets_what_needs_root_and_ends") {
        return;
    }
    block_on(async {
        let timeout = "/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait";
        // Conntrack's settings are there once something tracks connections.
        for rule in ["add table ip t", "add chain ip t c { type filter hook input priority 0; }"] {
            run("nft", &[rule]);
        }
        run("nft", &["add rule ip t c ct state invalid drop"]);
        assert_ne!(run("cat", &[timeout]), "1234\n");
        let mut command = portolan(&["agent", "--init-only", "--conntrack-max-per-core=0"]);
        command.arg("--conntrack-tcp-timeout-close-wait=1234s");
        let mut process = Process::start(command);
        assert!(process.ends().await.success());
        process.says("the kernel is set up").await;
        assert_eq!(run("cat", &[timeout]), "1234\n");
        assert_eq!(run("nft", &["list", "tables"]), "table ip t\n", "no Service is programmed");
    });
}
