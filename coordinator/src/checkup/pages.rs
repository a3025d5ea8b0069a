//! The certificate of the pages: until when, and for which names.

use proto::UnixTime;
use proto::checkup::{Finding, Topic};

use crate::chronicle::CERTIFICATE_TOLD_S;
use crate::web::Certificate;

const DAY_S: u64 = 86_400;
/// Names that are told at most.
const NAMES_MAX: usize = 5;

/// Whether browsers take it; `called`: the name that people are sent to.
pub(super) fn certificate(found: &Certificate, called: &str, now: UnixTime) -> Vec<Finding> {
    let of_its = |what| match found.is_own {
        true => format!("the pages' own certificate {what}"),
        false => format!("the certificate of the pages {what}"),
    };
    vec![life(found, &of_its, now), names(found, called, &of_its)]
}

fn life(found: &Certificate, of_its: &dyn Fn(String) -> String, now: UnixTime) -> Finding {
    let Certificate { expires, is_own, .. } = found;
    let next = match is_own {
        true => "the coordinator makes the next one by itself: its log says why it has not",
        false => {
            "put the next one where https_cert and https_key say: it is taken within ten minutes"
        }
    };
    let left_s = expires.0.saturating_sub(now.0);
    let days = left_s / DAY_S;
    let topic = Topic::Certificate;
    match left_s {
        0 => {
            let what = format!("has expired on {expires} UTC: browsers refuse the pages");
            Finding::wrong(topic, of_its(what), next)
        }
        1..=CERTIFICATE_TOLD_S => {
            Finding::doubt(topic, of_its(format!("expires in {days} days, on {expires} UTC")), next)
        }
        _ => Finding::good(topic, of_its(format!("expires in {days} days, on {expires} UTC"))),
    }
}

fn names(found: &Certificate, called: &str, of_its: &dyn Fn(String) -> String) -> Finding {
    let mut all: Vec<_> = found.names.iter().take(NAMES_MAX).map(String::as_str).collect();
    if found.names.len() > NAMES_MAX {
        all.push("others");
    }
    let all = if all.is_empty() { "no name".to_owned() } else { all.join(", ") };
    match found.is_for(called) {
        true => Finding::good(Topic::Certificate, of_its(format!("is for {all}"))),
        false => Finding::doubt(
            Topic::Certificate,
            of_its(format!("is for {all}, and people are sent to {called}: browsers warn")),
            "have it made for that name, or set https_url to one that it is for",
        ),
    }
}

/// That there are none.
pub(super) fn none(why: &str) -> Finding {
    let next = "a little after the start they come by themselves; else mend what the log of the \
                coordinator tells";
    Finding::doubt(Topic::Certificate, format!("there are no pages: {why}"), next)
}

#[cfg(test)]
mod tests {
    use proto::checkup::Grade;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn found(left_s: u64, is_own: bool, names: &[&str]) -> Certificate {
        Certificate {
            fingerprint: "AB:CD".to_owned(),
            expires: NOW.plus_s(left_s),
            is_own,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
        }
    }

    #[test]
    fn its_end_is_told_in_time_and_what_to_do_by_whose_it_is() {
        let cases = [
            (0, false, Grade::Wrong, "has expired on 2027-01-15 08:00:00 UTC"),
            (3 * DAY_S, false, Grade::Doubt, "expires in 3 days, on 2027-01-18 08:00:00 UTC"),
            (14 * DAY_S, true, Grade::Doubt, "expires in 14 days"),
            (15 * DAY_S, false, Grade::Good, "expires in 15 days"),
        ];
        for (left_s, is_own, grade, says) in cases {
            let told = certificate(&found(left_s, is_own, &["a"]), "a", NOW).remove(0);
            assert_eq!((told.topic, told.grade), (Topic::Certificate, grade), "{told}");
            assert!(told.what.contains(says), "{told}");
            assert_eq!(told.next.contains("by itself"), is_own, "{told}");
        }
    }

    #[test]
    fn one_that_is_not_for_the_name_that_people_are_sent_to_is_in_doubt() {
        let cases: [(&[&str], &str, Grade); 5] = [
            (&["deploy.example.com"], "deploy.example.com", Grade::Good),
            (&["*.example.com"], "deploy.example.com", Grade::Good),
            (&["*.example.com"], "a.deploy.example.com", Grade::Doubt),
            (&["10.0.0.5"], "10.0.0.6", Grade::Doubt),
            (&[], "deploy.example.com", Grade::Doubt),
        ];
        for (names, called, grade) in cases {
            let told = certificate(&found(90 * DAY_S, false, names), called, NOW).remove(1);
            assert_eq!(told.grade, grade, "{told}");
        }
        let many = ["a", "b", "c", "d", "e", "f"];
        let told = certificate(&found(90 * DAY_S, false, &many), "f", NOW).remove(1);
        assert_eq!(told.what, "the certificate of the pages is for a, b, c, d, e, others");
    }
}
