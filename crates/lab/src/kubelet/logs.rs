//! Container logs in the CRI format: `TIME STREAM TAG TEXT`, one line each.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use std::cell::RefCell;

use tokio::sync::watch;

/// A longer line is split; its parts but the last carry the tag `P`.
const LONGEST_LINE: usize = 16 << 10;

/// The log of one run of a container. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Rc<RefCell<File>>,
    /// Bytes written; the sender side of followers. `true` once nothing will follow.
    grown: Rc<watch::Sender<(u64, bool)>>,
}

impl Log {
    /// Begins the log of a container's run number `restart`, and removes those before the last.
    pub(crate) fn create(folder: &Path, restart: u32) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        if let Some(old) = restart.checked_sub(2) {
            let old = folder.join(format!("{old}.log"));
            if old.exists() {
                fs::remove_file(old)?;
            }
        }
        let path = folder.join(format!("{restart}.log"));
        let file = Rc::new(RefCell::new(File::create(&path)?));
        Ok(Self { path, file, grown: Rc::new(watch::Sender::new((0, false))) })
    }

    /// Writes down what comes out of one of the container's streams.
    pub(crate) fn writer(&self, stream: &'static str) -> Writer {
        Writer { log: self.clone(), stream, line: Vec::new() }
    }

    /// Nothing more will come: followers end.
    pub(crate) fn close(&self) {
        self.grown.send_modify(|grown| grown.1 = true);
    }

    /// A reader from the beginning, or from the last `tail` lines.
    pub(crate) fn read(&self, tail: Option<usize>) -> io::Result<Lines> {
        let mut reader = BufReader::new(File::open(&self.path)?);
        if let Some(tail) = tail {
            let start = start_of_tail(&mut reader, tail)?;
            reader.seek(SeekFrom::Start(start))?;
        }
        Ok(Lines { reader, grown: self.grown.subscribe(), line: Vec::new() })
    }

    fn append(&self, stream: &str, whole: bool, text: &[u8]) -> io::Result<()> {
        let tag = if whole { "F" } else { "P" };
        let mut entry = format!("{:.9} {stream} {tag} ", jiff::Timestamp::now()).into_bytes();
        entry.extend(text);
        entry.push(b'\n');
        self.file.borrow_mut().write_all(&entry)?;
        self.grown.send_modify(|grown| grown.0 += entry.len() as u64);
        Ok(())
    }
}

/// Makes lines of the pieces that come out of a stream.
#[derive(Debug)]
pub(crate) struct Writer {
    log: Log,
    stream: &'static str,
    /// What has come of the present line.
    line: Vec<u8>,
}

impl Writer {
    /// Takes the next bytes.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let line =
                bytes.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |at| at + 1);
            let (now, later) = bytes.split_at(line.min(LONGEST_LINE - self.line.len()));
            self.line.extend(now);
            bytes = later;
            if self.line.ends_with(b"\n") || self.line.len() == LONGEST_LINE {
                self.write_line();
            }
        }
    }

    /// Nothing more will come.
    pub(crate) fn finish(mut self) {
        if !self.line.is_empty() {
            self.write_line();
        }
    }

    fn write_line(&mut self) {
        let whole = self.line.pop_if(|byte| *byte == b'\n').is_some();
        if let Err(error) = self.log.append(self.stream, whole, &self.line) {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(path = %self.log.path.display(), error, "could not write a container's log");
        }
        self.line.clear();
    }
}

/// One line of a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Line {
    /// When it was written, RFC 3339.
    pub(crate) time: String,
    /// The text, with its newline unless it is part of a longer line.
    pub(crate) text: Vec<u8>,
}

/// Reads lines, and waits for more.
#[derive(Debug)]
pub(crate) struct Lines {
    reader: BufReader<File>,
    grown: watch::Receiver<(u64, bool)>,
    line: Vec<u8>,
}

impl Lines {
    /// The next line that is there already.
    pub(crate) fn next(&mut self) -> io::Result<Option<Line>> {
        self.reader.read_until(b'\n', &mut self.line)?;
        if self.line.last() != Some(&b'\n') {
            return Ok(None);
        }
        let line = parse(&self.line);
        self.line.clear();
        Ok(Some(line))
    }

    /// Whether more than the lines read so far is there already.
    pub(crate) fn peek(&mut self) -> io::Result<bool> {
        self.reader.fill_buf().map(|more| !more.is_empty())
    }

    /// Waits for more lines. False when none will come.
    pub(crate) async fn wait(&mut self) -> bool {
        if self.grown.borrow_and_update().1 {
            return false;
        }
        self.grown.changed().await.is_ok()
    }
}

fn parse(entry: &[u8]) -> Line {
    let mut parts = entry.splitn(4, |byte| *byte == b' ');
    let mut next = || parts.next().unwrap_or_default();
    let (time, _stream, tag) = (next(), next(), next());
    let mut text = next().to_vec();
    if tag == b"P" {
        text.pop();
    }
    Line { time: String::from_utf8_lossy(time).into_owned(), text }
}

/// Where the last `tail` lines begin.
fn start_of_tail(reader: &mut impl BufRead, tail: usize) -> io::Result<u64> {
    let mut starts = std::collections::VecDeque::new();
    let (mut at, mut line) = (0, Vec::new());
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(starts.front().copied().unwrap_or(at));
        }
        starts.push_back(at);
        if starts.len() > tail {
            starts.pop_front();
        }
        at += length as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tail_and_partial_lines_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path(), 0).unwrap();
        for (whole, text) in [(true, "one"), (false, "tw"), (true, "o"), (true, "three x")] {
            log.append("stdout", whole, text.as_bytes()).unwrap();
        }
        let all = |tail| {
            let mut lines = log.read(tail).unwrap();
            let mut text = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                text.extend(line.text);
            }
            String::from_utf8(text).unwrap()
        };
        assert_eq!(all(None), "one\ntwo\nthree x\n");
        assert_eq!(all(Some(1)), "three x\n");
        assert_eq!(all(Some(0)), "");
    }

    #[test]
    fn pieces_become_lines_and_long_lines_are_split() {
        let folder = tempfile::tempdir().unwrap();
        let log = Log::create(folder.path(), 0).unwrap();
        let mut writer = log.writer("stdout");
        let long = "x".repeat(LONGEST_LINE + 1);
        for piece in ["on", "e\ntwo\n", &long, "\n", "$ "] {
            writer.write(piece.as_bytes());
        }
        writer.finish();
        let written = fs::read_to_string(&log.path).unwrap();
        let tags: Vec<_> = written.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["F", "F", "P", "F", "P"]);
        let mut lines = log.read(None).unwrap();
        let mut text = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            text.extend(line.text);
        }
        assert_eq!(String::from_utf8(text).unwrap(), format!("one\ntwo\n{long}\n$ "));
    }
}
