//! Runs cases: requests out, answers compared with the recorded ones.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};

use super::client::{Answer, Client, body};
use super::compare::{Scores, compare};
use super::json::{Names, holds, short, substitute, substitute_text, value, values};
use super::matcher::Matcher;
use super::watch::Watch;

/// How long a polling step waits when it does not say.
const PATIENCE: f64 = 20.0;

/// Runs the cases of one server, one after another.
pub(crate) struct Runner {
    client: Client,
    /// How often softer things were alike: texts, warnings, managedFields, Content-Type.
    pub(crate) scores: Scores,
    counter: usize,
}

/// One case under way.
struct Run<'a> {
    client: &'a Client,
    scores: &'a mut Scores,
    matcher: Matcher,
    names: Names,
    watches: BTreeMap<String, Watch>,
    /// Paths of what was made, to be removed again.
    made: Vec<String>,
}

impl Runner {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, scores: Scores::default(), counter: 0 }
    }

    /// Runs one case in a fresh namespace. The error says what was different first.
    pub(crate) async fn case(&mut self, case: &Value) -> Result<(), String> {
        self.counter += 1;
        let mut run = Run {
            client: &self.client,
            scores: &mut self.scores,
            matcher: Matcher::default(),
            names: Names::new(),
            watches: BTreeMap::new(),
            made: Vec::new(),
        };
        if case["namespace"] != false {
            let name = namespace(self.counter);
            run.names.insert("ns".to_owned(), name.as_str().into());
            run.matcher.names = run.names.clone();
            let object = json!({
                "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name },
            });
            run.send("POST", "/api/v1/namespaces", Some(&object)).await?;
        }
        let mut result = Ok(());
        for (i, step) in case["steps"].as_array().into_iter().flatten().enumerate() {
            if let Err(why) = run.step(step).await {
                let (method, path) = (&step["method"], &step["path"]);
                result = Err(format!("step {} {method} {path}: {why}", i + 1));
                break;
            }
        }
        run.clean_up(case).await;
        result
    }
}

impl Run<'_> {
    async fn step(&mut self, raw: &Value) -> Result<(), String> {
        if let Some(id) = raw["join"].as_str() {
            let watch = self.watches.remove(id).ok_or("no such watch")?;
            return self.finish(watch, raw).await;
        }
        if let (Some(seconds), true) = (raw["sleep"].as_f64(), raw["method"].is_null()) {
            // The case wants time to pass, in which something must not happen.
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            return Ok(());
        }
        if !raw["repeat"].is_null() {
            return self.repeat(raw).await;
        }
        let step = self.request(raw);
        if !raw["watch"].is_null() {
            let watch = Watch::start(self.client, step).await?;
            if let Some(id) = raw["watch"]["id"].as_str() {
                self.watches.insert(id.to_owned(), watch);
                return Ok(());
            }
            return self.finish(watch, raw).await;
        }
        if !raw["poll"].is_null() {
            return self.poll(raw, &step).await;
        }
        let answer = self.client.call(&step, body(&step, &self.names)?).await?;
        self.track(&step, &answer);
        compare(&mut self.matcher, raw, &self.names, &answer, Some(self.scores))?;
        self.capture(raw, &answer)
    }

    /// A step with captured values in their places.
    fn request(&self, raw: &Value) -> Value {
        let members = raw.as_object().into_iter().flatten();
        let sent = members.filter(|(key, _)| !["capture", "expect"].contains(&key.as_str()));
        let substituted = sent.map(|(key, value)| match value {
            // Never the value itself: what is sent is text.
            Value::String(text) if key == "raw" => {
                (key.clone(), substitute_text(text, &self.names).into())
            }
            value => (key.clone(), substitute(value, &self.names)),
        });
        substituted.collect::<Map<_, _>>().into()
    }

    async fn poll(&mut self, raw: &Value, step: &Value) -> Result<(), String> {
        let patience = raw["poll"]["timeout"].as_f64().unwrap_or(PATIENCE);
        let end = Instant::now() + Duration::from_secs_f64(patience);
        let until = substitute(&raw["poll"]["until"], &self.names);
        loop {
            let answer = self.client.call(step, body(step, &self.names)?).await?;
            let mut trial = self.matcher.clone();
            let mut result = compare(&mut trial, raw, &self.names, &answer, None);
            let mut conditions = until.as_array().into_iter().flatten();
            if raw["check"] == "status" && !conditions.all(|one| holds(&answer.document, one)) {
                result = Err(format!("condition not reached: {}", short(&answer.document)));
            }
            match result {
                Ok(()) => {
                    compare(&mut self.matcher, raw, &self.names, &answer, Some(self.scores))?;
                    return self.capture(raw, &answer);
                }
                Err(why) if Instant::now() > end => return Err(format!("gave up: {why}")),
                // Another client can only ask again.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    async fn repeat(&mut self, raw: &Value) -> Result<(), String> {
        let start = raw["repeat"]["start"].as_u64().unwrap_or_default();
        let count = raw["repeat"]["count"].as_u64().unwrap_or_default();
        let mut statuses = BTreeMap::<String, u64>::new();
        for i in start..start + count {
            self.names.insert("i".to_owned(), i.into());
            let mut step = self.request(raw);
            if let Some(step) = step.as_object_mut() {
                step.remove("repeat");
            }
            let answer = self.client.call(&step, body(&step, &self.names)?).await?;
            self.track(&step, &answer);
            *statuses.entry(answer.status.to_string()).or_default() += 1;
            for predicate in raw["assert"].as_array().into_iter().flatten() {
                if !holds(&answer.document, predicate) {
                    return Err(format!("round {i}: {predicate} does not hold"));
                }
            }
        }
        self.names.remove("i");
        let (want, got) = (&raw["expect"]["statuses"], json!(statuses));
        if *want == got { Ok(()) } else { Err(format!("statuses: expected {want}, got {got}")) }
    }

    async fn finish(&mut self, watch: Watch, raw: &Value) -> Result<(), String> {
        match watch.finish().await? {
            Ok(events) => self.compare_events(&events, raw),
            Err(answer) => compare(&mut self.matcher, raw, &self.names, &answer, Some(self.scores)),
        }
    }

    fn compare_events(&mut self, events: &[Value], raw: &Value) -> Result<(), String> {
        if raw["expect"]["status"] != 200 {
            return Err(format!("status: expected {}, got 200", raw["expect"]["status"]));
        }
        let types =
            |events: &[Value]| -> Value { events.iter().map(|e| e["type"].clone()).collect() };
        let wanted = raw["expect"]["events"].as_array().map_or(&[][..], Vec::as_slice);
        if types(wanted) != types(events) {
            let (want, got) = (types(wanted), types(events));
            return Err(format!("event types: expected {want}, got {got}"));
        }
        for (i, (want, got)) in wanted.iter().zip(events).enumerate() {
            let (want, got) = (&want["object"], &got["object"]);
            let difference = if super::matcher::is_failure(want) {
                self.matcher.diff_failures(want, got)
            } else {
                self.matcher.diff(want, got, &format!("events[{i}].object"))
            };
            if let Some(difference) = difference {
                return Err(difference);
            }
        }
        Ok(())
    }

    fn capture(&mut self, raw: &Value, answer: &Answer) -> Result<(), String> {
        for (name, pointer) in raw["capture"].as_object().into_iter().flatten() {
            let pointer = pointer.as_str().unwrap_or_default();
            if values(&answer.document, pointer).is_empty() {
                return Err(format!("nothing at {pointer:?} to capture"));
            }
            self.names.insert(name.clone(), value(&answer.document, pointer));
        }
        Ok(())
    }

    /// Remembers what a request has made.
    fn track(&mut self, step: &Value, answer: &Answer) {
        let path = step["path"].as_str().unwrap_or_default();
        let made = [200, 201, 202].contains(&answer.status);
        if !made || path.ends_with("/status") || !step["query"]["dryRun"].is_null() {
            return;
        }
        match step["method"].as_str() {
            Some("POST") => {
                let name = &answer.document["metadata"]["name"];
                let name = name.as_str().or_else(|| step["body"]["metadata"]["name"].as_str());
                let is_action =
                    ["/eviction", "/binding", "/token"].iter().any(|end| path.ends_with(end));
                if let Some(name) = name.filter(|_| !is_action) {
                    self.made.push(format!("{}/{name}", path.trim_end_matches('/')));
                }
            }
            Some("PUT" | "PATCH") if answer.status == 201 => self.made.push(path.to_owned()),
            _ => {}
        }
    }

    /// Cases use fixed addresses and ports: the next one must find them free.
    async fn clean_up(mut self, case: &Value) {
        self.watches.clear();
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "propagationPolicy": "Background",
        });
        for path in std::mem::take(&mut self.made).iter().rev() {
            let Ok(answer) = self.send("DELETE", path, Some(&options)).await else { continue };
            let finalizers = &answer.document["metadata"]["finalizers"];
            if finalizers.is_array() && !path.contains("servicecidrs") {
                let step = json!({
                    "method": "PATCH", "path": path,
                    "contentType": "application/merge-patch+json",
                });
                let patch = json!({ "metadata": { "finalizers": null } });
                // Gone already is fine.
                let _ = self.client.call(&step, Some(patch.to_string().into_bytes())).await;
            }
        }
        for raw in case["cleanup"].as_array().into_iter().flatten() {
            let step = self.request(raw);
            // What cannot be cleaned up fails the case that meets it.
            let _ = self.client.call(&step, body(&step, &self.names).unwrap_or_default()).await;
        }
        if let Some(name) = self.names.get("ns").and_then(Value::as_str).map(str::to_owned) {
            let _ = self.send("DELETE", &format!("/api/v1/namespaces/{name}"), None).await;
        }
    }

    async fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Answer, String> {
        let step = json!({ "method": method, "path": path, "contentType": "application/json" });
        let answer =
            self.client.call(&step, body.map(|body| body.to_string().into_bytes())).await?;
        if answer.status < 300 {
            Ok(answer)
        } else {
            Err(format!("{method} {path}: {} {}", answer.status, answer.document["message"]))
        }
    }
}

/// Letters that occur in no recorded name.
fn namespace(mut number: usize) -> String {
    let mut name = "v".to_owned();
    for _ in 0..9 {
        name.push(char::from(b"bcdfghjklmnpqrstvwxz"[number % 20]));
        number /= 20;
    }
    name
}
