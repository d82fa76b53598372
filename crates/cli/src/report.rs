//! Messages to people: to stderr, with colours only on a terminal.

use std::io::Write;

/// Prints an error with its causes, one a line.
pub(crate) fn error(error: &anyhow::Error) {
    let mut out = anstream::stderr().lock();
    // Nowhere is left to complain when stderr is gone.
    let mut said = error.to_string();
    let _ = writeln!(out, "\x1b[1;31merror:\x1b[0m {said}");
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Some errors name their causes themselves.
        if !said.contains(&cause) {
            let _ = writeln!(out, "  caused by: {cause}");
            said = cause;
        }
    }
}

/// Prints a warning.
pub(crate) fn warning(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "\x1b[1;33mwarning:\x1b[0m {text}");
}

/// Prints a line of progress.
pub(crate) fn progress(text: &str) {
    let _ = writeln!(anstream::stderr().lock(), "{text}");
}

/// Prints results to stdout; a closed pipe (`| head`) is no error.
pub(crate) fn results(text: &str) {
    let mut out = anstream::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}
