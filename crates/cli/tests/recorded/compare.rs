//! One answer against the recorded one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::client::Answer;
use super::json::{Names, holds, short, substitute};
use super::matcher::{Matcher, is_failure};
use super::shape::{PROJECTIONS, shape};

/// How often things that no program depends on were as recorded, and where they were not.
#[derive(Default)]
pub(crate) struct Scores {
    alike: BTreeMap<&'static str, [usize; 2]>,
    /// What differed, most recent last.
    pub(crate) differences: Vec<String>,
}

impl Scores {
    fn count(&mut self, what: &'static str, want: &Value, got: &Value, alike: bool) {
        let [good, all] = self.alike.entry(what).or_default();
        *good += usize::from(alike);
        *all += 1;
        if !alike {
            self.differences.push(format!("{what}: expected {}, got {}", short(want), short(got)));
        }
    }

    /// One line for each score.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line =
            |(what, [good, all]): (&&str, &[usize; 2])| format!("{what}: {good} of {all} alike");
        self.alike.iter().map(line).collect()
    }
}

/// Compares an answer with what a step expects. The error is the first difference.
pub(crate) fn compare(
    matcher: &mut Matcher,
    raw: &Value,
    names: &Names,
    answer: &Answer,
    scores: Option<&mut Scores>,
) -> Result<(), String> {
    let expect = &raw["expect"];
    if expect["status"] != answer.status {
        let (want, got, said) = (&expect["status"], answer.status, &answer.document["message"]);
        return Err(format!("status: expected {want}, got {got} ({})", short(said)));
    }
    for predicate in raw["assert"].as_array().into_iter().flatten() {
        if !holds(&answer.document, predicate) {
            return Err(format!("{predicate} does not hold"));
        }
    }
    if raw["check"] == "status" {
        return Ok(());
    }
    let others = raw["contentTypeAnyOf"].as_array();
    if raw["check"] == "contentType" || others.is_some() {
        let kind = |text: &str| text.split(';').next().map(str::to_owned);
        let got = kind(&answer.content_type);
        let mut good = others.into_iter().flatten().chain([&expect["contentType"]]);
        if !good.any(|one| one.as_str().and_then(kind) == got) {
            return Err(format!("contentType: got {}", answer.content_type));
        }
        if others.is_some() {
            return Ok(());
        }
    }
    let mut none = Scores::default();
    let scores = scores.unwrap_or(&mut none);
    compare_body(matcher, raw, names, answer, scores)?;
    compare_warnings(matcher, expect, answer, scores);
    let (want, got) = (&expect["contentType"], &answer.content_type.as_str().into());
    scores.count("contentType", want, got, want == got);
    Ok(())
}

fn compare_body(
    matcher: &mut Matcher,
    raw: &Value,
    names: &Names,
    answer: &Answer,
    scores: &mut Scores,
) -> Result<(), String> {
    let expect = &raw["expect"];
    if let Some(magic) = expect["magic"].as_str() {
        let got: String = answer.body.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
        return if magic == got { Ok(()) } else { Err(format!("magic: got {got}")) };
    }
    if let Some(text) = expect["text"].as_str() {
        let got = String::from_utf8_lossy(&answer.body).into_owned().into();
        let alike = matcher.text(text, &got);
        if answer.status >= 400 {
            scores.count("messages", &expect["text"], &got, alike);
        } else if !alike {
            return Err(format!("text: expected {text:?}, got {}", short(&got)));
        }
        return Ok(());
    }
    let want = &expect["body"];
    if want.is_null() {
        return Ok(());
    }
    let before = matcher.clone();
    let difference = if is_failure(want) {
        matcher.diff_failures(want, &answer.document)
    } else {
        matcher.diff(want, &shaped(raw, names, &answer.document), "body")
    };
    if let Some(difference) = difference {
        *matcher = before;
        return Err(difference);
    }
    if is_failure(want) {
        let (want, got) = (&want["message"], &answer.document["message"]);
        let alike = want.as_str().is_none_or(|want| matcher.text(want, got));
        scores.count("messages", want, got, alike);
    } else {
        let own = substitute(want, &Names::from_iter(names.get_key_value("ns").map(owned)));
        let (want, got) = (managed(&own), managed(&shaped(raw, names, &answer.document)));
        if !want.is_empty() {
            let alike = want == got;
            scores.count("managedFields", &want.into(), &got.into(), alike);
        }
    }
    Ok(())
}

fn compare_warnings(matcher: &mut Matcher, expect: &Value, answer: &Answer, scores: &mut Scores) {
    let want = expect["warnings"].as_array().map_or(&[][..], Vec::as_slice);
    let got: Vec<Value> = answer.warnings.iter().map(|text| text.as_str().into()).collect();
    if want.is_empty() && got.is_empty() {
        return;
    }
    let mut pairs = want.iter().zip(&got);
    let alike = want.len() == got.len()
        && pairs.all(|(want, got)| matcher.text(want.as_str().unwrap_or_default(), got));
    scores.count("warnings", &want.into(), &got.into(), alike);
}

fn shaped(raw: &Value, names: &Names, document: &Value) -> Value {
    let chosen = PROJECTIONS.iter().filter_map(|key| Some(((*key).to_owned(), raw.get(key)?)));
    let step: Map<_, _> = chosen.map(|(key, value)| (key, substitute(value, names))).collect();
    shape(document, &step.into())
}

/// Every managedFields of a document, without times and in one order.
fn managed(document: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    match document {
        Value::Object(map) => {
            for (key, value) in map {
                if key == "managedFields" {
                    let entries = value.as_array().into_iter().flatten();
                    let mut entries: Vec<Value> = entries.map(untimed).collect();
                    entries.sort_by_key(Value::to_string);
                    found.push(entries.into());
                } else {
                    found.extend(managed(value));
                }
            }
        }
        Value::Array(list) => found.extend(list.iter().flat_map(managed)),
        _ => {}
    }
    found
}

fn untimed(entry: &Value) -> Value {
    json!({
        "manager": entry["manager"], "operation": entry["operation"],
        "subresource": entry["subresource"], "apiVersion": entry["apiVersion"],
        "fieldsV1": entry["fieldsV1"],
    })
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}
