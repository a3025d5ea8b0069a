//! What somebody may have meant who names what nobody knows.

use crate::listed;

/// Names that are suggested, or told where none is near, at most.
const SUGGESTED_MAX: usize = 3;
const TOLD_MAX: usize = 10;

/// What to do about a name that is none of `known`: one or some that are near, else the first of all.
///
/// ```
/// let known = ["production", "staging"];
/// assert_eq!(proto::near::advice("prod", known), "did you mean production?");
/// assert_eq!(proto::near::advice("stagnig", known), "did you mean staging?");
/// assert_eq!(proto::near::advice("x", known), "there are production, staging");
/// assert_eq!(proto::near::advice("x", []), "there is none yet");
/// ```
pub fn advice<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let mut known: Vec<_> = known.into_iter().collect();
    known.sort_unstable();
    known.dedup();
    let near = near(given, &known);
    match (&near[..], &known[..]) {
        ([], []) => "there is none yet".to_owned(),
        ([], [one]) => format!("there is only {one}"),
        ([], all) => format!("there are {}", listed(all, TOLD_MAX)),
        (near, _) => format!("did you mean {}?", near.join(" or ")),
    }
}

/// Those that are written much like it, the likeliest first.
fn near<'a>(given: &str, known: &[&'a str]) -> Vec<&'a str> {
    let given = given.to_lowercase();
    let mut near: Vec<_> =
        known.iter().filter_map(|name| Some((distance(&given, name)?, *name))).collect();
    near.sort_unstable();
    near.into_iter().take(SUGGESTED_MAX).map(|(_, name)| name).collect()
}

/// How far a name is from what was given, in typing mistakes; none: nobody means it. One that begins with
/// what was given, or the other way round, was cut short.
fn distance(given: &str, name: &str) -> Option<usize> {
    let name = name.to_lowercase();
    let cut =
        given.len() >= 2 && name.starts_with(given) || name.len() >= 2 && given.starts_with(&name);
    let most = 1 + given.chars().count() / 8;
    match mistakes(given, &name, most) {
        _ if given == name => Some(0),
        // One letter is not a likeness where there are only two.
        Some(few) if given.chars().count() > 2 => Some(few),
        _ if cut => Some(most),
        _ => None,
    }
}

/// Letters put in, left out, changed, or two that changed places, if they are at most `most` (optimal
/// string alignment).
fn mistakes(one: &str, other: &str, most: usize) -> Option<usize> {
    let (one, other): (Vec<_>, Vec<_>) = (one.chars().collect(), other.chars().collect());
    if one.len().abs_diff(other.len()) > most {
        return None;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<_> = (0..=other.len()).collect();
    for (i, a) in one.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, b) in other.iter().enumerate() {
            let changed = row[j] + usize::from(a != b);
            let mut least = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *a == other[j - 1] && one[i - 1] == *b {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().filter(|count| *count <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant_table() {
        let hosts: Vec<_> = (0..30).map(|n| format!("web-{n:02}")).collect();
        let hosts: Vec<_> = hosts.iter().map(String::as_str).collect();
        let cases: [(&str, &[&str], &str); 9] = [
            ("wbe", &["web", "shop"], "did you mean web?"),
            ("Production", &["production"], "did you mean production?"),
            ("web-frontend", &["web"], "did you mean web?"),
            ("st", &["staging", "store"], "did you mean staging or store?"),
            ("xx", &["ab"], "there is only ab"),
            ("zzz", &["web", "shop", "web"], "there are shop, web"),
            ("web-7", &hosts, "did you mean web-07 or web-17 or web-27?"),
            (
                "db",
                &hosts[..12],
                "there are web-00, web-01, web-02, web-03, web-04, web-05, web-06, web-07, web-08, web-09 and 2 more",
            ),
            ("ü", &["web"], "there is only web"),
        ];
        for (given, known, told) in cases {
            assert_eq!(advice(given, known.iter().copied()), told, "{given}");
        }
    }

    #[test]
    fn mistakes_are_counted_up_to_a_limit() {
        for (one, other, count) in [
            ("", "", 0),
            ("ab", "ba", 1),
            ("kitten", "sitting", 3),
            ("abc", "", 3),
            ("ca", "abc", 3),
        ] {
            assert_eq!(mistakes(one, other, 9), Some(count), "{one} {other}");
            assert_eq!(mistakes(one, other, count.wrapping_sub(1)).filter(|_| count > 0), None);
        }
    }
}
