//! What a sink makes of the server's answers.

use crate::support::{Scripted, Step, failure};
use hyper::StatusCode;
use portolan_cluster::{Client, RequestError, TokenRequest};
use serde_json::{Value, json};
use wire::from_model::{Call, Method};

async fn request(client: &Client, call: Call) -> Result<Value, RequestError> {
    client.request(call).await
}

fn put(if_missing: Option<Call>) -> Call {
    Call {
        method: Method::Put,
        path: "/api/v1/namespaces/default/endpoints/web".to_owned(),
        content_type: "application/json",
        body: json!({}),
        if_missing: if_missing.map(Box::new),
    }
}

#[tokio::test]
async fn a_missing_object_is_created_when_the_call_says_so() {
    let server = Scripted::start([
        failure(404, "NotFound"),
        Step::Answer(StatusCode::CREATED, json!({"kind": "Endpoints"})),
    ])
    .await;
    let create = Call {
        method: Method::Post,
        path: "/api/v1/namespaces/default/endpoints".to_owned(),
        ..put(None)
    };
    let answer = request(&server.client().await, put(Some(create))).await.expect("is created");
    assert_eq!(answer["kind"], "Endpoints");
    assert_eq!(
        server.requests(),
        [
            "PUT /api/v1/namespaces/default/endpoints/web",
            "POST /api/v1/namespaces/default/endpoints"
        ]
    );
}

#[tokio::test]
async fn failures_are_told_apart() {
    let server = Scripted::start([
        failure(409, "Conflict"),
        failure(404, "NotFound"),
        failure(422, "Invalid"),
        failure(503, "ServiceUnavailable"),
    ])
    .await;
    let client = server.client().await;
    let mut flags = Vec::new();
    for _ in 0..4 {
        let error = request(&client, put(None)).await.expect_err("is refused");
        flags.push((error.is_conflict(), error.is_gone(), error.is_retryable()));
    }
    assert_eq!(
        flags,
        [(true, false, false), (false, true, false), (false, false, false), (false, false, true)]
    );
}

#[tokio::test]
async fn a_server_that_is_away_is_worth_another_try() {
    let server = Scripted::start([]).await;
    let client = server.client().await;
    drop(server);
    let error = request(&client, put(None)).await.expect_err("nobody answers");
    assert!(error.is_retryable());
    assert_eq!(
        error.to_string(),
        "PUT /api/v1/namespaces/default/endpoints/web: no answer from the API server"
    );
}

#[tokio::test]
async fn a_token_is_read_from_the_status() {
    let status = json!({"status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}});
    let server = Scripted::start([Step::Answer(StatusCode::CREATED, status)]).await;
    let request = TokenRequest {
        namespace: "default".into(),
        service_account: "default".into(),
        audiences: Vec::new(),
        expiration_seconds: 3600,
        pod: Some(("web".into(), "uid".into())),
    };
    let token = server.client().await.request_token(&request).await.expect("is given");
    assert_eq!(token.token, "t");
    assert!(!format!("{token:?}").contains("\"t\""), "a secret is not printed");
}
