//! Printing: JSON for scripts, text for people, and nothing but a quiet end when nobody reads.

use std::io::{self, ErrorKind, Write as _};
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

/// Something that was printed is lost: a full disk, say.
static LOST: AtomicBool = AtomicBool::new(false);

/// Whether something that was printed is lost: then a script must not take the end for a good one.
pub(crate) fn is_lost() -> bool {
    LOST.load(Ordering::Relaxed)
}

/// Prints `value` as JSON, or `text` of it.
pub(crate) fn print<T: Serialize + ?Sized>(json: bool, value: &T, text: impl FnOnce() -> String) {
    let text = match json {
        true => {
            let mut text = serde_json::to_string_pretty(value).expect("reports serialize");
            text.push('\n');
            text
        }
        false => text(),
    };
    write(&text);
}

/// Prints `value` as one line of JSON.
pub(crate) fn print_line<T: Serialize + ?Sized>(value: &T) {
    write(&format!("{}\n", serde_json::to_string(value).expect("reports serialize")));
}

/// Writes to the standard output. A reader that went away (`| head`) is not an error: there is
/// nobody left to tell.
pub(crate) fn write(text: &str) {
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = written
        && error.kind() != ErrorKind::BrokenPipe
        && !LOST.swap(true, Ordering::Relaxed)
    {
        let _ = writeln!(io::stderr(), "swell: cannot write to the standard output: {error}");
    }
}
