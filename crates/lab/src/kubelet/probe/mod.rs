//! Probes and hooks: what is asked, and when an answer counts.

mod grpc;
mod http;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

use super::spec::{Action, Container, Probe};
use crate::net::Namespace;

/// Asks one question.
pub(crate) struct Asking<'a> {
    pub(crate) container: &'a Container,
    /// The node's namespace: probes come from the node.
    pub(crate) node: &'a Namespace,
    pub(crate) address: IpAddr,
}

/// Counts answers until they change what is believed.
#[derive(Debug)]
pub(crate) struct Counter {
    successes: u32,
    failures: u32,
    success_threshold: u32,
    failure_threshold: u32,
}

impl Counter {
    pub(crate) fn new(probe: &Probe) -> Self {
        Self {
            successes: 0,
            failures: 0,
            success_threshold: probe.success_threshold,
            failure_threshold: probe.failure_threshold,
        }
    }

    /// Takes an answer; says what is to be believed once enough agree.
    pub(crate) fn take(&mut self, success: bool) -> Option<bool> {
        let (count, other, threshold) = if success {
            (&mut self.successes, &mut self.failures, self.success_threshold)
        } else {
            (&mut self.failures, &mut self.successes, self.failure_threshold)
        };
        *other = 0;
        *count = count.saturating_add(1);
        (*count >= threshold).then_some(success)
    }
}

impl Asking<'_> {
    /// Does an action other than exec, which the caller runs.
    ///
    /// # Errors
    /// What kubectl shows after "probe failed: ".
    pub(crate) async fn ask(&self, action: &Action, timeout: Duration) -> Result<(), String> {
        let asked = async {
            if let Some(get) = &action.http_get {
                return self.http(get).await;
            }
            if let Some(tcp) = &action.tcp_socket {
                let to = self.target(&tcp.port, tcp.host.as_deref())?;
                return self.connect(to).await.map(drop);
            }
            if let Some(grpc) = &action.grpc {
                return self.grpc(grpc).await;
            }
            if let Some(sleep) = &action.sleep {
                tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
                return Ok(());
            }
            Err("it says neither exec, httpGet, tcpSocket, grpc nor sleep".to_owned())
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(format!("no answer within {} s", timeout.as_secs())),
        }
    }

    async fn connect(&self, to: SocketAddr) -> Result<TcpStream, String> {
        self.node.connect(to).await.map_err(|error| format!("dial tcp {to}: {error}"))
    }

    fn target(&self, port: &serde_json::Value, host: Option<&str>) -> Result<SocketAddr, String> {
        let number =
            self.container.port(port).ok_or_else(|| format!("the container has no port {port}"))?;
        let address = match host.filter(|host| !host.is_empty()) {
            Some(host) => host.parse().map_err(|_| format!("host {host:?} is not an address"))?,
            None => self.address,
        };
        Ok(SocketAddr::new(address, number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_counts_when_enough_agree_in_a_row() {
        let probe = Probe { success_threshold: 2, failure_threshold: 3, ..Probe::default() };
        let mut counter = Counter::new(&probe);
        let answers = [true, true, false, false, true, false, false, false];
        let believed: Vec<_> = answers.into_iter().map(|answer| counter.take(answer)).collect();
        assert_eq!(believed, [None, Some(true), None, None, None, None, None, Some(false)]);
    }
}
