//! Events as text: a line each.

use proto::report::EventReport;

use super::plain;

/// `swell events`; `of_all`: they are not those of something.
pub(crate) fn events(events: &[EventReport], of_all: bool) -> String {
    if events.is_empty() {
        return match of_all {
            true => "nothing has happened yet, as far as the coordinator has seen\n".to_owned(),
            false => {
                "nothing of that has happened, as far as the coordinator has seen\n".to_owned()
            }
        };
    }
    events.iter().map(line).collect()
}

/// When, what kind, what; one that asks something of people says how much.
fn line(event: &EventReport) -> String {
    let EventReport { seq, at, kind, severity, text, .. } = event;
    let mark = match severity.as_str() {
        "info" => String::new(),
        other => format!("{}: ", plain(other)),
    };
    format!("{seq:>6}  {at}  {:<20}  {mark}{}\n", plain(kind), plain(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::sample::CREATED;

    #[test]
    fn an_event_is_a_line_and_cannot_steer_the_terminal() {
        let event = |severity: &str, text: &str| EventReport {
            seq: 7,
            at: CREATED,
            kind: "wave-opened".to_owned(),
            severity: severity.to_owned(),
            service: None,
            env: None,
            rollout: None,
            host: None,
            text: text.to_owned(),
            detail: serde_json::json!({}),
        };
        let all = [event("info", "web 1.3.0: wave 1 of 2"), event("critical", "\u{1b}[2Jroot")];
        assert_eq!(
            events(&all, true),
            "     7  2027-01-15 08:00:00  wave-opened           web 1.3.0: wave 1 of 2\n     \
             7  2027-01-15 08:00:00  wave-opened           critical:  [2Jroot\n"
        );
        assert!(events(&[], true).starts_with("nothing has happened yet"));
        assert!(events(&[], false).starts_with("nothing of that has happened"));
    }
}
