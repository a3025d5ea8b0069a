//! The receivers of notifications, as text.

use proto::id::{Env, Service};
use proto::statement::UnixTime;
use proto::wire::ReceiverReport;

use super::{plain, table};
use crate::span;

/// `swell notify list`.
pub(crate) fn receivers(receivers: &[ReceiverReport], now: UnixTime) -> String {
    if receivers.is_empty() {
        return "nobody is told of anything: receivers stand in coordinator.toml, under [[notify]]\n"
            .to_owned();
    }
    let rows: Vec<_> = receivers.iter().map(|one| row(one, now)).collect();
    let mut text =
        table(["RECEIVER", "KIND", "OF", "DELIVERED", "WAIT", "DROPPED", "LAST", "TO"], &rows);
    for receiver in receivers {
        let Some(fault) = &receiver.fault else { continue };
        let again = receiver.next_try.map(|time| time.0.saturating_sub(now.0));
        let again = again.map(|wait_s| match wait_s {
            0 => "; it is tried again now".to_owned(),
            wait_s => format!("; it is tried again in {}", span::show(wait_s)),
        });
        let (name, again) = (&receiver.name, again.unwrap_or_default());
        text.push_str(&format!("{name}: {}{again}\n", plain(fault)));
    }
    text
}

fn row(receiver: &ReceiverReport, now: UnixTime) -> [String; 8] {
    let last = receiver.last.map(|last| now.0.saturating_sub(last.0));
    let last = last.map_or_else(|| "-".to_owned(), |ago_s| format!("{} ago", span::show(ago_s)));
    [
        receiver.name.to_string(),
        plain(&receiver.kind),
        of(receiver),
        receiver.delivered.to_string(),
        receiver.waiting.to_string(),
        receiver.dropped.to_string(),
        last,
        plain(&receiver.to),
    ]
}

/// `13 kinds`, with the services and environments it is of, where it is not of all.
fn of(receiver: &ReceiverReport) -> String {
    let kinds = match &receiver.events[..] {
        [kind] => plain(kind),
        kinds => format!("{} kinds", kinds.len()),
    };
    let join = |names: Vec<&str>| names.join(",");
    let services = join(receiver.services.iter().map(Service::as_str).collect());
    let envs = join(receiver.envs.iter().map(Env::as_str).collect());
    match (services.is_empty(), envs.is_empty()) {
        (true, true) => kinds,
        (false, true) => format!("{kinds} of {services}"),
        (true, false) => format!("{kinds} in {envs}"),
        (false, false) => format!("{kinds} of {services} in {envs}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receiver(name: &str) -> ReceiverReport {
        ReceiverReport {
            name: name.parse().unwrap(),
            kind: "slack".to_owned(),
            to: String::new(),
            events: vec!["rollout-halted".to_owned(), "host-lost".to_owned()],
            services: Vec::new(),
            envs: Vec::new(),
            waiting: 0,
            delivered: 12,
            dropped: 0,
            last: Some(UnixTime(940)),
            fault: None,
            next_try: None,
        }
    }

    #[test]
    fn receivers_in_a_table_and_below_it_what_is_wrong() {
        let mut bot = receiver("bot");
        (bot.kind, bot.to) = ("webhook".to_owned(), "https://bot.example.com".to_owned());
        bot.events.pop();
        bot.services = vec!["web".parse().unwrap(), "shop".parse().unwrap()];
        bot.envs = vec!["production".parse().unwrap()];
        (bot.delivered, bot.waiting, bot.dropped, bot.last) = (0, 3, 1, None);
        (bot.fault, bot.next_try) = (Some("it answers\n503".to_owned()), Some(UnixTime(1_040)));
        assert_eq!(
            receivers(&[receiver("ops"), bot], UnixTime(1_000)),
            "RECEIVER  KIND     OF                                        DELIVERED  WAIT  DROPPED  LAST       TO\n\
             ops       slack    2 kinds                                   12         0     0        1 min ago\n\
             bot       webhook  rollout-halted of web,shop in production  0          3     1        -          https://bot.example.com\n\
             bot: it answers 503; it is tried again in 40 s\n"
        );
        assert!(receivers(&[], UnixTime(1)).contains("[[notify]]"));
    }
}
