//! Probes and hooks: what is asked, and when an answer counts.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::spec::{Action, Container, HttpGet, Probe};
use crate::net::Namespace;

/// As much of an answer as a message shows.
const SHOWN: usize = 1024;

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
                return self
                    .node
                    .connect(to)
                    .await
                    .map(drop)
                    .map_err(|error| format!("dial tcp {to}: {error}"));
            }
            if let Some(sleep) = &action.sleep {
                tokio::time::sleep(Duration::from_secs(sleep.seconds)).await;
                return Ok(());
            }
            Err("the lab asks by httpGet, tcpSocket and exec only".to_owned())
        };
        match tokio::time::timeout(timeout, asked).await {
            Ok(answer) => answer,
            Err(_elapsed) => Err(format!("no answer within {} s", timeout.as_secs())),
        }
    }

    async fn http(&self, get: &HttpGet) -> Result<(), String> {
        if get.scheme.as_deref() == Some("HTTPS") {
            return Err("the lab asks by plain HTTP only, not by HTTPS".to_owned());
        }
        let to = self.target(&get.port, get.host.as_deref())?;
        let path = if get.path.is_empty() { "/" } else { &get.path };
        let url = format!("http://{to}{path}");
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        let named = |name: &str| {
            get.http_headers.iter().any(|header| header.name.eq_ignore_ascii_case(name))
        };
        let usual = [
            ("Host", to.to_string()),
            ("User-Agent", "kube-probe/1.37".to_owned()),
            ("Accept", "*/*".to_owned()),
        ];
        for (name, value) in usual.iter().filter(|(name, _)| !named(name)) {
            request += &format!("{name}: {value}\r\n");
        }
        for header in &get.http_headers {
            request += &format!("{}: {}\r\n", header.name, header.value);
        }
        request += "Connection: close\r\n\r\n";
        let answer =
            self.exchange(to, &request).await.map_err(|error| format!("Get \"{url}\": {error}"))?;
        let code: u16 =
            answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default();
        if (200..400).contains(&code) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {code}"))
        }
    }

    async fn exchange(&self, to: SocketAddr, request: &str) -> io::Result<String> {
        let mut stream = self.node.connect(to).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = vec![0; SHOWN];
        let mut length = 0;
        while !answer[..length].contains(&b'\n') && length < answer.len() {
            match stream.read(&mut answer[length..]).await? {
                0 => break,
                more => length += more,
            }
        }
        Ok(String::from_utf8_lossy(&answer[..length]).into_owned())
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
