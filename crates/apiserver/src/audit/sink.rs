//! Where events are written: a file, or stdout.

use std::io::{self, Write};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

use super::rotate::{Rotated, Rotation};

/// A thread that writes lines. Requests never wait for the disk: when it cannot keep up, lines
/// are lost, and the log says so.
pub(super) struct Sink {
    lines: Option<SyncSender<String>>,
    writer: Option<JoinHandle<()>>,
}

impl Sink {
    /// Appends to a file that only its owner may read; `-` is stdout, which is not rotated.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = if path == Path::new("-") {
            Box::new(io::stdout())
        } else {
            Box::new(Rotated::open(path, rotation)?)
        };
        let (sender, receiver) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("audit-writer".to_owned())
            .spawn(move || write(out, &receiver))?;
        Ok(Self { lines: Some(sender), writer: Some(writer) })
    }

    /// Writes a line, soon.
    pub(super) fn write(&self, line: String) {
        let Some(lines) = &self.lines else { return };
        if let Err(TrySendError::Full(_)) = lines.try_send(line) {
            tracing::warn!("the audit log cannot keep up; an event is lost");
        }
    }
}

impl Drop for Sink {
    /// Waits until everything is written.
    fn drop(&mut self) {
        drop(self.lines.take());
        if let Some(writer) = self.writer.take() {
            // A writer that panicked has already said so.
            drop(writer.join());
        }
    }
}

fn write(mut out: Box<dyn Write + Send>, lines: &Receiver<String>) {
    while let Ok(first) = lines.recv() {
        let mut batch = first;
        batch.push('\n');
        // All that wait become one write.
        while batch.len() < BATCH
            && let Ok(line) = lines.try_recv()
        {
            batch.push_str(&line);
            batch.push('\n');
        }
        let written = out.write_all(batch.as_bytes()).and_then(|()| out.flush());
        if let Err(error) = written {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot write the audit log");
        }
    }
}

/// Lines that may wait.
const QUEUE: usize = 10_000;
/// Bytes that are written at a time.
const BATCH: usize = 256 * 1024;
