//! Prometheus text, as far as counting needs it: samples by name and labels, added up.
//!
//! Made for text from anybody: a page is bounded before it gets here, a line that does not read is
//! passed over, and a value is a finite number of 0 or more or it is passed over, too. Format:
//! prometheus.io/docs/instrumenting/exposition_formats (text 0.0.4).

use regex_lite::Regex;

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
        let refuse = |why| SelectorError { text: text.to_owned(), why };
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

    fn fits(&self, labels: &[(&str, String)]) -> bool {
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

/// The name at the start of a text, and what follows; the name may be empty.
fn take_name(text: &str) -> (&str, &str) {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let end = text.find(|c| !is_name(c)).unwrap_or(text.len());
    match text.starts_with(|c: char| c.is_ascii_digit()) {
        true => ("", text),
        false => text.split_at(end),
    }
}

/// The text in double quotes at the start, unescaped, and what follows.
fn take_quoted(text: &str) -> Option<(String, &str)> {
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

/// A sample: its labels beside the name, and its value.
struct Sample<'a> {
    name: &'a str,
    labels: Vec<(&'a str, String)>,
    value: f64,
}

fn parse_sample(line: &str) -> Option<Sample<'_>> {
    let line = line.trim();
    if line.starts_with('#') {
        return None;
    }
    let (name, mut rest) = take_name(line);
    let mut labels = Vec::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner.trim_start();
        while !rest.starts_with('}') {
            let (label, after) = take_name(rest);
            let after = after.trim_start().strip_prefix('=')?.trim_start();
            let (value, after) = take_quoted(after)?;
            labels.push((label, value));
            let after = after.trim_start();
            rest = after.strip_prefix(',').map_or(after, str::trim_start);
        }
        rest = &rest[1..];
    }
    // A timestamp may stand behind the value.
    let value: f64 = rest.split_whitespace().next()?.parse().ok()?;
    let counts = !name.is_empty() && value.is_finite() && value >= 0.0;
    counts.then_some(Sample { name, labels, value })
}

/// The sum of the samples of a page that a selector names; none where there is none of them.
pub fn sum(page: &str, selector: &Selector) -> Option<f64> {
    let samples = page.lines().filter(|line| line.trim_start().starts_with(&selector.name));
    let fitting = samples.filter_map(parse_sample);
    fitting
        .filter(|sample| sample.name == selector.name && selector.fits(&sample.labels))
        .map(|sample| sample.value)
        .reduce(|sum, value| sum + value)
}

/// The buckets of a histogram, added up over all that the selector names: upper bounds in seconds,
/// rising, the infinite one last, each with the requests up to it. Empty where there is none.
pub fn buckets(page: &str, selector: &Selector, buckets_max: usize) -> Vec<(f64, f64)> {
    let name = format!("{}_bucket", selector.name);
    let mut sums: Vec<(f64, f64)> = Vec::new();
    let lines = page.lines().filter(|line| line.trim_start().starts_with(&name));
    for sample in lines.filter_map(parse_sample) {
        let bound = sample.labels.iter().find(|(label, _)| *label == "le");
        let bound = bound.and_then(|(_, value)| value.parse::<f64>().ok());
        let Some(bound) = bound.filter(|bound| !bound.is_nan()) else { continue };
        if sample.name != name || !selector.fits(&sample.labels) {
            continue;
        }
        match sums.binary_search_by(|(held, _)| held.total_cmp(&bound)) {
            Ok(at) => sums[at].1 += sample.value,
            Err(_) if sums.len() >= buckets_max => return Vec::new(),
            Err(at) => sums.insert(at, (bound, sample.value)),
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"
# HELP http_requests_total Requests.
# TYPE http_requests_total counter
http_requests_total{code="200",path="/"} 1027 1395066363000
http_requests_total{code="500",path="/"} 3
http_requests_total{code="503", path="/a\"b\\c"} 4
 http_requests_total { code = "200" } 5
http_requests_total_other{code="500"} 100
up 1
broken{code="500
http_requests_total{code="500"} NaN
http_requests_total{code="500"} -7
http_request_duration_seconds_bucket{le="0.1",path="/"} 90
http_request_duration_seconds_bucket{le="0.5",path="/"} 99
http_request_duration_seconds_bucket{le="+Inf",path="/"} 100
http_request_duration_seconds_bucket{le="0.1",path="/x"} 9
http_request_duration_seconds_bucket{le="+Inf",path="/x"} 10
http_request_duration_seconds_bucket{le="wide",path="/x"} 10
http_request_duration_seconds_count{path="/"} 100
"#;

    fn selector(text: &str) -> Selector {
        Selector::parse(text).unwrap()
    }

    #[test]
    fn samples_are_added_up_by_name_and_labels() {
        let rows = [
            ("http_requests_total", Some(1_034.0)),
            (r#"http_requests_total{code=~"5.."}"#, Some(7.0)),
            (r#"http_requests_total{code=~"5"}"#, None),
            (r#"http_requests_total{code!~"5..",}"#, Some(1_027.0)),
            (r#"http_requests_total{code="500",path="/"}"#, Some(3.0)),
            (r#"http_requests_total{path="/a\"b\\c"}"#, Some(4.0)),
            (r#"http_requests_total{path!="/"}"#, Some(4.0)),
            (r#"http_requests_total{nothing=""}"#, Some(1_034.0)),
            ("up", Some(1.0)),
            ("missing", None),
            ("broken", None),
        ];
        for (text, expected) in rows {
            assert_eq!(sum(PAGE, &selector(text)), expected, "{text}");
        }
    }

    #[test]
    fn buckets_are_added_up_by_their_bounds() {
        let all = buckets(PAGE, &selector("http_request_duration_seconds"), 32);
        assert_eq!(all, [(0.1, 99.0), (0.5, 99.0), (f64::INFINITY, 110.0)]);
        let one = buckets(PAGE, &selector(r#"http_request_duration_seconds{path="/x"}"#), 32);
        assert_eq!(one, [(0.1, 9.0), (f64::INFINITY, 10.0)]);
        assert_eq!(buckets(PAGE, &selector("http_request_duration_seconds"), 2), []);
        assert_eq!(buckets(PAGE, &selector("up"), 32), []);
    }

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
        ] {
            let error = Selector::parse(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    /// Whatever a page holds, reading it ends and never fails.
    #[test]
    fn no_page_does_harm() {
        let selectors = ["a", "a{b=~\".*\"}"].map(selector);
        let pieces = ["a", "{", "}", "b", "=", "\"", "\\", "le", ",", " ", "\n", "1", "1e999", "é", "#"];
        let mut state = 7_u64;
        for _ in 0..20_000 {
            let mut page = String::new();
            for _ in 0..12 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                page.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            }
            for selector in &selectors {
                assert!(sum(&page, selector).is_none_or(|sum| sum >= 0.0), "{page:?}");
                buckets(&page, selector, 4);
            }
            let _ = Selector::parse(&page);
        }
    }
}
