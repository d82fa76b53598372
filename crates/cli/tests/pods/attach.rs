//! `kubectl attach` and `kubectl run -it`: people and pipes at the streams of a container.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};

use nix::pty::{OpenptyResult, Winsize, openpty};

use crate::Pods;
use crate::harness::{eventually, text};

pub(crate) fn a_terminal_is_attached(pods: &Pods) {
    let mut command = pods.lab.kubectl_command(&pods.kubectl);
    command.args(["run", "typed", "-it", "--rm", "--restart=Never", "--image=any"]);
    command.args(["--command", "--", "sh"]);
    let mut person = Person::start(command);
    person.hears("try pressing enter");
    // What is typed comes back as an echo: only a shell makes 2 of it.
    person.types("echo a$((1 + 1))hoy\n");
    person.hears("a2hoy");
    person.types("until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo siz$((1 + 1))\n");
    person.hears("siz2");
    let logs = pods.run(&["logs", "typed"]);
    assert!(logs.contains("a2hoy"), "the terminal is logged as well: {logs}");
    person.types("exit 3\n");
    assert_eq!(person.ends(), Some(3));
    pods.run(&["wait", "pod", "typed", "--for=delete", "--timeout=20s"]);
}

pub(crate) fn pipes_are_attached(pods: &Pods) {
    let typed = ["run", "piped", "-i", "--rm", "--restart=Never", "--image=any", "--command"];
    let typed = [&typed[..], &["--", "sed", "s/hoy/HOY/"]].concat();
    let output = pods.lab.kubectl_output(&pods.kubectl, &typed, "ahoy\n");
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("aHOY\n"), "{}", text(&output));
}

pub(crate) fn stdin_stays_open_or_ends_with_its_first_client(pods: &Pods) {
    for name in ["listener", "listener-once"] {
        pods.until(name, "it runs", |status| status["state"]["running"].is_object());
    }
    for (line, heard) in [("one\n", "heard one\n"), ("two\n", "heard one\nheard two\n")] {
        let attached = pods.lab.kubectl_output(&pods.kubectl, &["attach", "-i", "listener"], line);
        assert!(attached.status.success(), "{}", text(&attached));
        eventually(heard, || pods.run(&["logs", "listener"]) == heard);
    }
    assert!(pods.container("listener")["state"]["running"].is_object());
    let attach = ["attach", "-i", "listener-once"];
    let attached = pods.lab.kubectl_output(&pods.kubectl, &attach, "12345");
    assert_eq!(String::from_utf8_lossy(&attached.stdout), "5\n", "{}", text(&attached));
    assert!(text(&attached).contains("end\n"), "stderr comes too: {}", text(&attached));
    pods.until_phase("listener-once", "Succeeded");
    let late = pods.lab.kubectl_output(&pods.kubectl, &attach, "");
    assert!(!late.status.success(), "{}", text(&late));
}

/// Somebody who types into a program and reads what it shows.
struct Person {
    child: Child,
    terminal: File,
    heard: Arc<Mutex<String>>,
}

impl Person {
    fn start(mut command: Command) -> Self {
        let size = Winsize { ws_row: 33, ws_col: 99, ws_xpixel: 0, ws_ypixel: 0 };
        let OpenptyResult { master, slave } = openpty(&size, None).unwrap();
        command.stdin(slave.try_clone().unwrap()).stdout(slave.try_clone().unwrap()).stderr(slave);
        let child = command.spawn().unwrap();
        // It holds the program's end of the terminal, which has to close when the program ends.
        drop(command);
        let terminal = File::from(master);
        let heard = Arc::new(Mutex::new(String::new()));
        let (mut reader, hearing) = (terminal.try_clone().unwrap(), heard.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut piece) {
                hearing.lock().unwrap().push_str(&String::from_utf8_lossy(&piece[..length]));
            }
        });
        Self { child, terminal, heard }
    }

    fn types(&mut self, text: &str) {
        self.terminal.write_all(text.as_bytes()).unwrap();
    }

    fn hears(&self, text: &str) {
        let heard = || self.heard.lock().unwrap().clone();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !heard().contains(text) {
            assert!(std::time::Instant::now() < deadline, "{text:?} is not in {:?}", heard());
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    fn ends(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}
