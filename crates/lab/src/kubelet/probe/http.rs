//! `httpGet`, over HTTP and HTTPS.

use std::sync::Arc;

use apiserver::tls::unverified_client_config;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::Asking;
use crate::error::chain;
use crate::kubelet::spec::HttpGet;

impl Asking<'_> {
    /// A status from 200 to 399 is a success; certificates are not verified (as in the real
    /// kubelet, `pkg/probe/http`).
    pub(super) async fn http(&self, get: &HttpGet) -> Result<(), String> {
        let to = self.target(&get.port, get.host.as_deref())?;
        let https = get.scheme.as_deref() == Some("HTTPS");
        let slash = if get.path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{}", get.path);
        let url = format!("http{}://{to}{path}", if https { "s" } else { "" });
        let said = |error: String| format!("Get \"{url}\": {error}");
        let request = request(get, &path, &to.to_string()).map_err(said)?;
        let stream = self.connect(to).await.map_err(said)?;
        let answered = if https {
            let config = unverified_client_config().map_err(|error| said(chain(&error)))?;
            let name = ServerName::IpAddress(to.ip().into());
            let stream = TlsConnector::from(Arc::new(config))
                .connect(name, stream)
                .await
                .map_err(|error| said(chain(&error)))?;
            send(stream, request).await
        } else {
            send(stream, request).await
        };
        let code = answered.map_err(|error| said(chain(&error)))?.as_u16();
        if (200..400).contains(&code) {
            Ok(())
        } else {
            Err(format!("HTTP probe failed with statuscode: {code}"))
        }
    }
}

/// The request with the kubelet's own headers, which `httpHeaders` may replace, and with an empty
/// value take away.
fn request(get: &HttpGet, path: &str, host: &str) -> Result<Request<Empty<Bytes>>, String> {
    let mut request = Request::get(path).body(Empty::new()).map_err(|error| error.to_string())?;
    let headers = request.headers_mut();
    headers.insert(header::HOST, HeaderValue::from_str(host).map_err(|error| error.to_string())?);
    headers.insert(header::USER_AGENT, HeaderValue::from_static("kube-probe/1.37"));
    headers.insert(header::ACCEPT, HeaderValue::from_static("*/*"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    for usual in [header::HOST, header::USER_AGENT, header::ACCEPT] {
        if get.http_headers.iter().any(|given| given.name.eq_ignore_ascii_case(usual.as_str())) {
            headers.remove(usual);
        }
    }
    for given in get.http_headers.iter().filter(|given| !given.value.is_empty()) {
        let name: HeaderName =
            given.name.parse().map_err(|_| format!("header {:?} is not valid", given.name))?;
        let value = HeaderValue::from_str(&given.value)
            .map_err(|_| format!("the value of header {name} is not valid"))?;
        headers.append(name, value);
    }
    Ok(request)
}

async fn send<S>(stream: S, request: Request<Empty<Bytes>>) -> hyper::Result<StatusCode>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    tokio::select! {
        response = sender.send_request(request) => Ok(response?.status()),
        Err(error) = connection => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::spec::Header;

    #[test]
    fn given_headers_replace_the_usual_ones() {
        let header = |name: &str, value: &str| Header { name: name.into(), value: value.into() };
        let get = HttpGet {
            http_headers: vec![
                header("host", "example.com"),
                header("Accept", ""),
                header("X-Twice", "1"),
                header("X-Twice", "2"),
            ],
            ..HttpGet::default()
        };
        let request = request(&get, "/", "10.0.0.1:80").unwrap();
        let headers = request.headers();
        assert_eq!(headers["host"], "example.com");
        assert_eq!(headers["user-agent"], "kube-probe/1.37");
        assert!(!headers.contains_key("accept"));
        assert_eq!(headers.get_all("x-twice").iter().count(), 2);
    }
}
