//! Command lines of kubectl and what it prints.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use regex::{Captures, Regex};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::server::{Profile, Server, TOKEN};

const COMMANDS: &str = include_str!("data/kubectl.json");
/// Of this kubectl the outputs were recorded.
const VERSION: &str = "v1.37.";
/// Of the commands that run in one namespace, in this order.
const NAMESPACE: &str = "kbcdfghj";

#[tokio::test]
async fn kubectl_prints_what_was_recorded() {
    let is_recorded = |kubectl: &PathBuf| {
        let output = Command::new(kubectl).args(["version", "--client"]).output();
        output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
    };
    let Some(kubectl) = testkit::kubectls().into_iter().find(is_recorded) else {
        return testkit::skip("kubectl_prints_what_was_recorded", "no kubectl 1.37");
    };
    let server = Server::start(Profile::Main);
    let folder = tempfile::tempdir().unwrap();
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded/data/kubectl");
    for file in std::fs::read_dir(data).unwrap() {
        let file = file.unwrap();
        let text = std::fs::read_to_string(file.path()).unwrap().replace("{ns}", NAMESPACE);
        std::fs::write(folder.path().join(file.file_name()), text).unwrap();
    }
    let commands: Vec<Value> = serde_json::from_str(COMMANDS).unwrap();
    let fixed = commands[0]["static"].as_array().unwrap();
    // A value that no recorded output shows may well be drawn by chance (port 32767, say).
    let shown = |value: &str| {
        let expected = commands.iter().map(|command| &command["expect"]);
        let outputs = expected.flat_map(|expected| [&expected["stdout"], &expected["stderr"]]);
        outputs.filter_map(Value::as_str).any(|output| output.contains(value))
    };
    let fixed = fixed.iter().map(|text| text.as_str().unwrap());
    let fixed = fixed.filter(|value| shown(value)).map(str::to_owned).collect();
    let session = Session { kubectl, server, folder, normal: Normal::new(fixed) };
    let mut failures = Vec::new();
    for command in &commands {
        if let Err(why) = session.check(command).await {
            failures.push(format!("{} {}: {why}", command["id"], command["argv"]));
        }
    }
    let (failed, all) = (failures.len(), commands.len());
    assert!(failures.is_empty(), "{failed} of {all} failed:\n{}", failures.join("\n"));
}

struct Session {
    kubectl: PathBuf,
    server: Server,
    folder: tempfile::TempDir,
    normal: Normal,
}

impl Session {
    /// Runs a command, again while controllers may still be at work.
    async fn check(&self, command: &Value) -> Result<(), String> {
        let patience = command["retry"].as_f64().unwrap_or_default();
        let end = Instant::now() + Duration::from_secs_f64(patience);
        loop {
            let result = compare(command, &self.run(command).await);
            if result.is_ok() || Instant::now() > end {
                return result;
            }
            // Another client can only ask again.
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn run(&self, command: &Value) -> Value {
        let folder = self.folder.path().to_str().unwrap();
        let filled = |text: &Value| {
            text.as_str().unwrap().replace("{ns}", NAMESPACE).replace("{files}", folder)
        };
        let mut kubectl = tokio::process::Command::new(&self.kubectl);
        kubectl.arg(format!("--server={}", self.server.url)).arg(format!("--token={TOKEN}"));
        kubectl.arg(format!("--cache-dir={folder}/cache")).arg("--insecure-skip-tls-verify");
        if command["cluster"] != true {
            kubectl.args(["-n", NAMESPACE]);
        }
        kubectl.args(command["argv"].as_array().unwrap().iter().map(filled));
        kubectl.env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("HOME", folder);
        kubectl.env("KUBECONFIG", "/dev/null").env("LC_ALL", "C").current_dir(folder);
        for (name, value) in command["env"].as_object().into_iter().flatten() {
            kubectl.env(name, filled(value));
        }
        kubectl.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = kubectl.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // A command that reads nothing may have closed it.
        let _ = stdin.write_all(command["stdin"].as_str().unwrap_or_default().as_bytes()).await;
        drop(stdin);
        let pid = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        let seconds = Duration::from_secs_f64(command["seconds"].as_f64().unwrap_or(60.0));
        let ended = child.wait_with_output();
        tokio::pin!(ended);
        let (output, code) = match tokio::time::timeout(seconds, &mut ended).await {
            Ok(output) => {
                let output = output.unwrap();
                let code = output.status.code().into();
                (output, code)
            }
            Err(_elapsed) => {
                kill(pid, Signal::SIGTERM).unwrap();
                (ended.await.unwrap(), Value::from("stopped"))
            }
        };
        let normal = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(bytes);
            let text = text.replace(NAMESPACE, "{ns}").replace(folder, "<dir>");
            self.normal.text(&text.replace(&self.server.url, "<server>"))
        };
        json!({
            "code": code, "stdout": normal(&output.stdout), "stderr": normal(&output.stderr),
        })
    }
}

fn compare(command: &Value, got: &Value) -> Result<(), String> {
    let want = &command["expect"];
    if want["code"] != got["code"] {
        let (want, got, said) = (&want["code"], &got["code"], &got["stderr"]);
        return Err(format!("exit status: expected {want}, got {got} ({said})"));
    }
    let check = command["check"].as_str().unwrap_or("text");
    if check == "code" {
        return Ok(());
    }
    for stream in ["stdout", "stderr"] {
        let lines = |output: &Value| {
            let mut lines: Vec<String> =
                output[stream].as_str().unwrap().split('\n').map(str::to_owned).collect();
            if let Some(count) = check.strip_prefix("head:") {
                lines.truncate(count.parse().unwrap());
            }
            if check == "sorted" {
                lines.sort();
            }
            lines
        };
        let (want, got) = (lines(want), lines(got));
        for i in 0..want.len().max(got.len()) {
            let (want, got) = (want.get(i), got.get(i));
            if want != got {
                return Err(format!("{stream} line {}: expected {want:?}, got {got:?}", i + 1));
            }
        }
    }
    Ok(())
}

/// What differs from run to run, as patterns with what they become.
struct Normal {
    fixed: Vec<String>,
    first: Vec<(Regex, &'static str)>,
    last: Vec<(Regex, &'static str)>,
    ip: Regex,
    ip6: Regex,
    port: Regex,
    age: Regex,
}

impl Normal {
    fn new(fixed: Vec<String>) -> Self {
        let all = |patterns: &[(&str, &'static str)]| {
            patterns.iter().map(|(find, with)| (Regex::new(find).unwrap(), *with)).collect()
        };
        let one = |pattern: &str| Regex::new(pattern).unwrap();
        Self {
            fixed,
            first: all(&[
                ("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uid>"),
                (
                    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d+)? [+-]\d{4}( [A-Z]+)?|(Mon|Tue|Wed|Thu|Fri|Sat|Sun), \d\d \w{3} \d{4} \d\d:\d\d:\d\d [+-]\d{4}",
                    "<time>",
                ),
                (r"/[^ \t]*/(LIVE|MERGED)-\d+", "<tmp>/$1-<n>"),
                (r#"/[^ \t"]*/kubectl-edit-\d+"#, "<tmp>/kubectl-edit-<n>"),
                (r#"(resourceVersion"?: )"\d+""#, r#"$1"<rv>""#),
            ]),
            ip: one(r"(^|[^0-9.])(10\.96\.\d+\.\d+)"),
            ip6: one(r"()(fd00:10:96::[0-9a-f:]+)"),
            port: one(r"(^|[^0-9.])(3[0-2]\d{3})"),
            age: one(r"([ (])(<invalid>|\d+(?:ms|s|m|h|d)(?:\d+(?:s|m|h))?)"),
            last: all(&[
                (
                    r"\b(web|web-np|web-lb|dual|exp|s|p1|web-deploy)-[bcdfghjklmnpqrstvwxz2456789]{5}\b",
                    "$1-<gen>",
                ),
                (r"web-deploy-[0-9a-f]{8,10}(-[a-z0-9]{5})?", "web-deploy-<gen>"),
                (r"\.[0-9a-f]{16}\b", ".<gen>"),
                (r"(?m)(\S)[ \t]{2,}", "$1  "),
                (r"(?m)[ \t]+$", ""),
            ]),
        }
    }

    fn text(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (find, with) in &self.first {
            text = find.replace_all(&text, *with).into_owned();
        }
        text = self.replace(&text, &self.ip, "<ip>", |_| true);
        text = self.replace(&text, &self.ip6, "<ip6>", |_| true);
        let no_more_digits =
            |rest: &str| !rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        text = self.replace(&text, &self.port, "<port>", no_more_digits);
        let is_cell = |rest: &str| {
            let ends = rest.trim_start_matches(' ');
            let is_last = ends.is_empty() || ends.starts_with('\n');
            is_last || [" ago", "  ", ")"].iter().any(|next| rest.starts_with(next))
        };
        text = self.replace(&text, &self.age, "<age>", is_cell);
        for (find, with) in &self.last {
            text = find.replace_all(&text, *with).into_owned();
        }
        text
    }

    /// Replaces what a pattern's second group finds where what follows is as wanted, unless the
    /// value is one that the commands name.
    fn replace(
        &self,
        text: &str,
        find: &Regex,
        with: &str,
        follows: impl Fn(&str) -> bool,
    ) -> String {
        let replaced = |found: &Captures<'_>| {
            let rest = &text[found.get(0).unwrap().end()..];
            if follows(rest) && !self.fixed.iter().any(|fixed| *fixed == found[2]) {
                format!("{}{with}", &found[1])
            } else {
                found[0].to_owned()
            }
        };
        find.replace_all(text, replaced).into_owned()
    }
}
