//! Requests as cases describe them.

use std::sync::LazyLock;

use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use kube::Config;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use regex::Regex;
use serde_json::{Value, json};

use super::json::{Names, edit, expand, plain};
use super::server::{Server, TOKEN};

/// A connection to the server under test.
#[derive(Clone)]
pub(crate) struct Client {
    client: kube::Client,
}

/// A whole answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) warnings: Vec<String>,
    pub(crate) body: Vec<u8>,
    /// The body as JSON, or null.
    pub(crate) document: Value,
}

impl Client {
    pub(crate) async fn new(server: &Server) -> Self {
        let file = Kubeconfig::from_yaml(&server.kubeconfig()).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = Config::from_custom_kubeconfig(file, &options).await.unwrap();
        // Failures are answers to be compared, not to be asked for again.
        config.default_retry = false;
        Self { client: kube::Client::try_from(config).unwrap() }
    }

    /// One exchange.
    pub(crate) async fn call(&self, step: &Value, body: Option<Vec<u8>>) -> Result<Answer, String> {
        let response = self.open(step, body).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes().to_vec();
        Ok(Answer::new(parts.status.as_u16(), &parts.headers, body))
    }

    /// Sends a request; the body of the answer is still to be read.
    pub(crate) async fn open(
        &self,
        step: &Value,
        body: Option<Vec<u8>>,
    ) -> Result<Response<Body>, String> {
        let mut request = Request::builder()
            .method(step["method"].as_str().unwrap())
            .uri(url(step))
            .header("User-Agent", "vectors/1")
            .header("Accept", step["accept"].as_str().unwrap_or("application/json"));
        match step["auth"].as_str().unwrap_or("token") {
            "token" => request = request.header("Authorization", format!("Bearer {TOKEN}")),
            "bad" => request = request.header("Authorization", "Bearer not-a-valid-token"),
            _ => {}
        }
        if let Some(kind) = step["contentType"].as_str() {
            request = request.header("Content-Type", kind);
        }
        for (name, value) in step["headers"].as_object().into_iter().flatten() {
            request = request.header(name, plain(value));
        }
        let request = request.body(Body::from(body.unwrap_or_default())).unwrap();
        self.client.send(request).await.map_err(|error| format!("transport: {error:?}"))
    }
}

impl Answer {
    pub(crate) fn new(status: u16, headers: &HeaderMap, body: Vec<u8>) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let content_type = text("content-type").unwrap_or_default().to_owned();
        let is_json = content_type.contains("json")
            || body.starts_with(b"{") && !content_type.contains("protobuf");
        let document = is_json.then(|| serde_json::from_slice(&body).ok()).flatten();
        let warnings = headers
            .get_all("warning")
            .iter()
            .filter_map(|value| std::str::from_utf8(value.as_bytes()).ok())
            .flat_map(|value| WARNING.captures_iter(value))
            .map(|found| found[1].replace("\\\"", "\""))
            .collect();
        Self { status, content_type, warnings, body, document: document.unwrap_or_default() }
    }
}

/// The body of a step's request.
pub(crate) fn body(step: &Value, names: &Names) -> Result<Option<Vec<u8>>, String> {
    if let Some(raw) = step["raw"].as_str() {
        let pad = usize::try_from(step["pad"].as_u64().unwrap_or_default()).unwrap();
        return Ok(Some(raw.replace("@PAD@", &"x".repeat(pad)).into_bytes()));
    }
    if let Some(name) = step["bodyFrom"].as_str() {
        let mut document =
            names.get(name).cloned().ok_or_else(|| format!("nothing captured as {name:?}"))?;
        edit(&mut document, &step["edit"]);
        return Ok(Some(document.to_string().into_bytes()));
    }
    let body = step.as_object().and_then(|step| step.get("body"));
    Ok(body.map(|body| expand(body).to_string().into_bytes()))
}

fn url(step: &Value) -> String {
    let mut url = encode(step["path"].as_str().unwrap(), "/:%~!$&'()*+,;=@-._[]");
    let mut pairs = Vec::new();
    for (key, value) in step["query"].as_object().into_iter().flatten() {
        let one = json!([value]);
        for value in value.as_array().or_else(|| one.as_array()).into_iter().flatten() {
            let (key, value) = (encode(key, "-._~"), encode(&plain(value), "-._~"));
            pairs.push(format!("{key}={value}"));
        }
    }
    if !pairs.is_empty() {
        url = format!("{url}?{}", pairs.join("&"));
    }
    url
}

fn encode(text: &str, kept: &str) -> String {
    let one = |byte: u8| {
        let letter = char::from(byte);
        if letter.is_ascii_alphanumeric() || kept.contains(letter) {
            letter.to_string()
        } else {
            format!("%{byte:02X}")
        }
    };
    text.bytes().map(one).collect()
}

static WARNING: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r#"299 - "((?:[^"\\]|\\.)*)""#).unwrap());
