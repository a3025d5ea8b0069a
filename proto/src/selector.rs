//! Which samples of a page of metrics count, in the words of PromQL.
//!
//! Selectors are signed in releases (`[health]` of `swell.toml`) and read by hosts, so that what one
//! accepts the other understands.

use regex_lite::Regex;

/// Longest selector, in bytes.
pub const SELECTOR_BYTES_MAX: usize = 512;

/// Which samples to add up: a name, and labels that must match, as in PromQL:
/// `http_requests_total{code=~"5..",path!="/healthz"}`.
#[derive(Debug, Clone)]
pub struct Selector {
    name: String,
    matchers: Vec<Matcher>,
}

#[derive(Debug, Clone)]
struct Matcher {
    label: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    Is(String),
    IsNot(String),
    Fits(Regex),
    FitsNot(Regex),
}

/// Why a text is no selector.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?}: {why}")]
pub struct SelectorError {
    text: String,
    why: &'static str,
}

impl Selector {
    /// Reads one.
    ///
    /// # Errors
    ///
    /// [`SelectorError`], with what is wrong in it.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let refuse = |why| SelectorError { text: text.chars().take(80).collect(), why };
        if text.len() > SELECTOR_BYTES_MAX {
            return Err(refuse("must be at most 512 bytes"));
        }
        let (name, rest) = take_name(text.trim());
        if name.is_empty() {
            return Err(refuse("must start with the name of a metric"));
        }
        let mut matchers = Vec::new();
        if !rest.is_empty() {
            let inner = rest.strip_prefix('{').and_then(|rest| rest.strip_suffix('}'));
            let mut inner = inner.ok_or_else(|| refuse("labels stand in {} behind the name"))?;
            while !inner.trim().is_empty() {
                let (matcher, rest) = parse_matcher(inner).map_err(refuse)?;
                matchers.push(matcher);
                inner = rest.trim_start();
                inner = match inner.strip_prefix(',') {
                    Some(rest) => rest,
                    None if inner.is_empty() => inner,
                    None => return Err(refuse("labels are separated by commas")),
                };
            }
        }
        Ok(Self { name: name.to_owned(), matchers })
    }

    /// The name of the metric.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether a sample of that name with these labels is one of them.
    pub fn fits(&self, labels: &[(&str, String)]) -> bool {
        self.matchers.iter().all(|matcher| {
            let value = labels.iter().find(|(label, _)| *label == matcher.label);
            // As in PromQL, a label that is not there is an empty one.
            matcher.test.fits(value.map_or("", |(_, value)| value))
        })
    }
}

impl Test {
    fn fits(&self, value: &str) -> bool {
        match self {
            Self::Is(text) => value == text,
            Self::IsNot(text) => value != text,
            Self::Fits(regex) => regex.is_match(value),
            Self::FitsNot(regex) => !regex.is_match(value),
        }
    }
}

fn parse_matcher(text: &str) -> Result<(Matcher, &str), &'static str> {
    let (label, rest) = take_name(text.trim_start());
    if label.is_empty() {
        return Err("a label has a name");
    }
    let rest = rest.trim_start();
    let operator = ["=~", "!~", "!=", "="].into_iter().find(|operator| rest.starts_with(operator));
    let operator = operator.ok_or("behind a label's name stands =, !=, =~ or !~")?;
    let (value, rest) = take_quoted(rest[operator.len()..].trim_start())
        .ok_or("a label's value stands in double quotes")?;
    // Anchored, as in PromQL.
    let regex = || Regex::new(&format!("^(?:{value})$")).map_err(|_| "a pattern does not read");
    let test = match operator {
        "=" => Test::Is(value),
        "!=" => Test::IsNot(value),
        "=~" => Test::Fits(regex()?),
        _ => Test::FitsNot(regex()?),
    };
    Ok((Matcher { label: label.to_owned(), test }, rest))
}

/// The name of a metric or a label at the start of a text, and what follows; the name may be empty.
pub fn take_name(text: &str) -> (&str, &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => ("", text),
        false => text.split_at(end),
    }
}

/// The text in double quotes at the start, unescaped, and what follows.
pub fn take_quoted(text: &str) -> Option<(String, &str)> {
    let body = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut chars = body.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &body[at + 1..])),
            '\\' => match chars.next()?.1 {
                'n' => value.push('\n'),
                // In a pattern `\.` keeps its backslash; `\\` and `\"` lose theirs.
                other @ ('\\' | '"') => value.push(other),
                other => value.extend(['\\', other]),
            },
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_selector_is_told_why() {
        for (text, why) in [
            ("", "must start with the name"),
            ("9lives", "must start with the name"),
            ("a{b=\"c\"", "labels stand in {}"),
            ("a b", "labels stand in {}"),
            ("a{=\"c\"}", "a label has a name"),
            ("a{b~\"c\"}", "behind a label's name"),
            ("a{b=c}", "in double quotes"),
            ("a{b=\"c}", "in double quotes"),
            ("a{b=\"c\" d=\"e\"}", "separated by commas"),
            ("a{b=~\"(\"}", "a pattern does not read"),
            (&"a".repeat(SELECTOR_BYTES_MAX + 1), "at most 512 bytes"),
        ] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
