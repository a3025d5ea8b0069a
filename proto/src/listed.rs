//! Names for people, of whom there may be many.

use std::fmt::Display;

/// The first names, at most `max`, and how many there are beside; empty where there are none.
///
/// ```
/// assert_eq!(proto::listed(["n1", "n2", "n3"], 2), "n1, n2 and 1 more");
/// assert_eq!(proto::listed(["n1", "n2"], 2), "n1, n2");
/// ```
pub fn listed<T: Display>(names: impl IntoIterator<Item = T>, max: usize) -> String {
    let mut names = names.into_iter();
    let first: Vec<_> = names.by_ref().take(max).map(|name| name.to_string()).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
