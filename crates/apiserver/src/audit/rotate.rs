//! A file that is put aside when it has grown, as kube-apiserver's audit log is.
//!
//! ```text
//!  audit.log ─ too large ─▶ audit-2026-02-03T04-05-06.789.log ─ too old, too many ─▶ removed
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};

/// When a log is put aside and what is kept of those that were.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// `--audit-log-maxsize`: megabytes (of 1024 × 1024 bytes) that a file may have; 0 is 100.
    pub max_size: u32,
    /// `--audit-log-maxbackup`: how many files put aside are kept; 0 keeps all.
    pub max_backup: u32,
    /// `--audit-log-maxage`: days that files put aside are kept; 0 keeps them for ever.
    pub max_age: u32,
}

/// The open file.
pub(super) struct Rotated {
    path: PathBuf,
    rotation: Rotation,
    file: File,
    size: u64,
}

impl Rotated {
    /// Goes on with the file if there is one.
    pub(super) fn open(path: &Path, rotation: Rotation) -> io::Result<Self> {
        let file = append(path)?;
        let size = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), rotation, file, size })
    }

    fn limit(&self) -> u64 {
        let megabytes = if self.rotation.max_size == 0 { 100 } else { self.rotation.max_size };
        u64::from(megabytes) * 1024 * 1024
    }

    /// Puts the file aside and begins a new one.
    fn rotate(&mut self, now: Timestamp) -> io::Result<()> {
        fs::rename(&self.path, self.aside(now))?;
        self.file = append(&self.path)?;
        self.size = 0;
        self.tidy(now)
    }

    /// `NAME-TIME.EXTENSION`, in UTC.
    fn aside(&self, now: Timestamp) -> PathBuf {
        let (start, end) = self.name();
        self.path.with_file_name(format!("{start}{}{end}", now.strftime(TIME)))
    }

    /// Removes what was put aside too long ago, and the oldest of too many.
    fn tidy(&self, now: Timestamp) -> io::Result<()> {
        let folder = match self.path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        let (start, end) = self.name();
        let mut aside: Vec<(Timestamp, PathBuf)> = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let time = name.to_str().and_then(|name| name.strip_prefix(&start));
            let time = time.and_then(|name| name.strip_suffix(&end)).and_then(parse);
            aside.extend(time.map(|time| (time, entry.path())));
        }
        aside.sort();
        aside.reverse();
        let Rotation { max_backup, max_age, .. } = self.rotation;
        let oldest = now - SignedDuration::from_hours(24 * i64::from(max_age));
        for (index, (time, path)) in aside.into_iter().enumerate() {
            let too_many = max_backup != 0 && index >= max_backup as usize;
            let too_old = max_age != 0 && time < oldest;
            if too_many || too_old {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// What stands before and after the time in the names of files put aside.
    fn name(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|part| part.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let extension = text(self.path.extension());
        let end = if extension.is_empty() { extension } else { format!(".{extension}") };
        (format!("{}-", text(self.path.file_stem())), end)
    }
}

impl Write for Rotated {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.size > 0
            && self.size + bytes.len() as u64 > self.limit()
            && let Err(error) = self.rotate(Timestamp::now())
        {
            // A log that grows is better than one that ends.
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, path = %self.path.display(), "cannot rotate the audit log");
        }
        let written = self.file.write(bytes)?;
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

fn parse(text: &str) -> Option<Timestamp> {
    let time = jiff::civil::DateTime::strptime(TIME, text).ok()?;
    Some(time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
}

const TIME: &str = "%Y-%m-%dT%H-%M-%S.%3f";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_file_is_put_aside_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let old = folder.path().join("audit-2020-01-02T03-04-05.678.log");
        fs::write(&old, "old").unwrap();
        fs::write(folder.path().join("audit-other.log"), "foreign").unwrap();
        let rotation = Rotation { max_size: 1, max_backup: 2, max_age: 0 };
        let mut log = Rotated::open(&path, rotation).unwrap();
        let aside = || {
            let names =
                fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
            let mut names: Vec<String> = names.map(|name| name.into_string().unwrap()).collect();
            names.retain(|name| name.starts_with("audit-2"));
            names.sort();
            names
        };
        let almost = vec![b'x'; 1024 * 1024 - 1];
        log.write_all(&almost).unwrap();
        log.write_all(b"y").unwrap();
        assert_eq!(aside().len(), 1, "exactly full is not too full");
        log.write_all(b"z").unwrap();
        assert_eq!(aside().len(), 2);
        assert_eq!(fs::read(&path).unwrap(), b"z");
        log.rotate(Timestamp::now() + SignedDuration::from_secs(1)).unwrap();
        assert_eq!(aside().len(), 2);
        assert!(!old.exists(), "two newer ones are kept");
        assert!(folder.path().join("audit-other.log").exists());
    }

    #[test]
    fn what_is_too_old_goes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        let rotation = Rotation { max_age: 2, ..Rotation::default() };
        let mut log = Rotated::open(&path, rotation).unwrap();
        let now: Timestamp = "2026-02-03T04:05:06.789Z".parse().unwrap();
        let of = |hours| log.aside(now - SignedDuration::from_hours(hours));
        let (young, old) = (of(47), of(49));
        for path in [&young, &old] {
            fs::write(path, "").unwrap();
        }
        log.rotate(now).unwrap();
        assert!(young.exists() && !old.exists());
        assert!(folder.path().join("audit-2026-02-03T04-05-06.789.log").exists());
    }
}
