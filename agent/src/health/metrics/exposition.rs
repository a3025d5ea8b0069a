//! Prometheus text, as far as counting needs it: samples by name and labels, added up.
//!
//! Made for text from anybody: a page is bounded before it gets here, a line that does not read is
//! passed over, and a value is a finite number of 0 or more or it is passed over, too. Format:
//! prometheus.io/docs/instrumenting/exposition_formats (text 0.0.4).

use proto::selector::{Selector, take_name, take_quoted};

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
pub(crate) fn sum(page: &str, selector: &Selector) -> Option<f64> {
    let samples = page.lines().filter(|line| line.trim_start().starts_with(selector.name()));
    let fitting = samples.filter_map(parse_sample);
    fitting
        .filter(|sample| sample.name == selector.name() && selector.fits(&sample.labels))
        .map(|sample| sample.value)
        .reduce(|sum, value| sum + value)
}

/// The buckets of a histogram, added up over all that the selector names: upper bounds in seconds,
/// rising, the infinite one last, each with the requests up to it. Empty where there is none.
pub(super) fn buckets(page: &str, selector: &Selector, buckets_max: usize) -> Vec<(f64, f64)> {
    let name = format!("{}_bucket", selector.name());
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

    /// Whatever a page holds, reading it ends and never fails.
    #[test]
    fn no_page_does_harm() {
        let selectors = ["a", "a{b=~\".*\"}"].map(selector);
        let pieces =
            ["a", "{", "}", "b", "=", "\"", "\\", "le", ",", " ", "\n", "1", "1e999", "é", "#"];
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
