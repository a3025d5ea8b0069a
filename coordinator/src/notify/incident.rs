//! What is open until something ends it: which kinds of events open it, and which close it.
//!
//! For receivers that know an alert's end, as PagerDuty does. Nothing is remembered here: an alert has
//! the same key each time, made of what it is about, and to end one that never began does nothing; one that
//! is open already is opened again, which the receiver takes for the same.

use proto::id::FleetId;
use serde_json::Value;

use crate::events::Event;
use crate::events::Kind::{
    self, ApprovalWanted, CertificateExpiring, HostBack, HostDrifted, HostFailed, HostLost,
    HostRemoved, HostStuck, HostsMended, RolloutAborted, RolloutComplete, RolloutExpired,
    RolloutHalted, RolloutHeld, RolloutMoves, RolloutPaused, RolloutRolledBack, RolloutStarted,
    RolloutSuperseded, RolloutWaits, RootExpiring,
};

/// What an incident is about: there is one of its sort for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum About {
    Rollout,
    /// A service in an environment.
    Scope,
    /// One, or those of which one event told: what begins and ends stands in the event's detail, in
    /// `incident` and `ends`; elsewhere it is the event's host.
    Hosts,
    Fleet,
}

/// Something that wants a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incident {
    /// The last part of its key.
    word: &'static str,
    about: About,
    opened_by: Kind,
    end: End,
}

/// How it ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With the first of these.
    With(&'static [Kind]),
    /// With no event: a person closes it, for this reason.
    ByHand(&'static str),
}

impl Incident {
    /// All there are. A kind above info that opens none is told and asks nothing.
    pub const ALL: &[Self] = &[
        Self {
            word: "approval",
            about: About::Rollout,
            opened_by: ApprovalWanted,
            end: End::With(&[RolloutStarted, RolloutAborted, RolloutExpired, RolloutSuperseded]),
        },
        Self {
            word: "held",
            about: About::Rollout,
            opened_by: RolloutHeld,
            // What comes after it has an alert of its own, is an end, or is what a person did.
            end: End::With(&[
                RolloutMoves,
                RolloutWaits,
                RolloutPaused,
                RolloutHalted,
                RolloutAborted,
                RolloutRolledBack,
                RolloutComplete,
                RolloutExpired,
                RolloutSuperseded,
            ]),
        },
        Self {
            // Of the scope, as those below: what ends it may be another rollout, one that goes back or one
            // that mends it, and neither has ended it before it is complete.
            word: "halted",
            about: About::Scope,
            opened_by: RolloutHalted,
            end: End::With(&[RolloutRolledBack, RolloutComplete]),
        },
        Self {
            // One for all hosts: its end names none of them.
            word: "failed",
            about: About::Scope,
            opened_by: HostFailed,
            end: End::With(&[RolloutRolledBack, RolloutComplete]),
        },
        Self {
            // One for all hosts. That a rollout completes says nothing of a host that it did not take in.
            word: "stuck",
            about: About::Scope,
            opened_by: HostStuck,
            end: End::With(&[HostsMended]),
        },
        Self {
            word: "expired",
            about: About::Scope,
            opened_by: RolloutExpired,
            end: End::With(&[RolloutStarted, RolloutMoves, RolloutComplete, RolloutSuperseded]),
        },
        Self {
            // A complete rollout has put what was released on every host.
            word: "drifted",
            about: About::Scope,
            opened_by: HostDrifted,
            end: End::With(&[RolloutComplete]),
        },
        Self {
            word: "lost",
            about: About::Hosts,
            opened_by: HostLost,
            end: End::With(&[HostBack, HostRemoved]),
        },
        Self {
            word: "root",
            about: About::Fleet,
            opened_by: RootExpiring,
            end: End::ByHand("no event tells of a new root: whoever made it knows"),
        },
        Self {
            word: "certificate",
            about: About::Fleet,
            opened_by: CertificateExpiring,
            end: End::ByHand("no event tells of a new certificate: whoever put it there knows"),
        },
    ];

    /// What this kind of event opens.
    pub fn opened_by(kind: Kind) -> Option<&'static Self> {
        Self::ALL.iter().find(|one| one.opened_by == kind)
    }

    /// What this kind of event closes, of what `kinds` open.
    pub fn closed_by(kind: Kind, kinds: &[Kind]) -> impl Iterator<Item = &'static Self> {
        let closes = move |one: &&Self| match one.end {
            End::With(ends) => ends.contains(&kind),
            End::ByHand(_) => false,
        };
        Self::ALL.iter().filter(|one| kinds.contains(&one.opened_by)).filter(closes)
    }

    /// Its keys in receivers, each of at most 200 bytes: the one that an event opens, or those that it
    /// closes. None: the event does not name what it is about.
    pub fn keys(&self, fleet: &FleetId, event: &Event) -> Vec<String> {
        let word = self.word;
        let about = match self.about {
            About::Rollout => event.rollout.iter().map(|id| format!("/rollout/{id:#}")).collect(),
            About::Scope => {
                let scope = event.scope().into_iter();
                scope.map(|scope| format!("/scope/{}/{}", scope.service, scope.env)).collect()
            }
            About::Hosts => hosts(event),
            About::Fleet => vec![String::new()],
        };
        about.iter().map(|about| format!("groundswell/{fleet}{about}/{word}")).collect()
    }
}

fn hosts(event: &Event) -> Vec<String> {
    let Event { detail, host, .. } = event;
    match (&detail["ends"], &detail["incident"]) {
        (Value::Array(ends), _) => {
            ends.iter().filter_map(Value::as_str).map(|end| format!("/{end}")).collect()
        }
        (_, Value::String(incident)) => vec![format!("/{incident}")],
        _ => host.iter().map(|host| format!("/host/{host}")).collect(),
    }
}

#[cfg(test)]
mod tests {
    use proto::UnixTime;
    use proto::id::Digest;

    use super::*;
    use crate::events::Severity;

    #[test]
    fn each_kind_opens_one_and_each_has_a_key_and_an_end_of_its_own() {
        let mut words: Vec<_> = Incident::ALL.iter().map(|one| one.word).collect();
        words.sort_unstable();
        words.dedup();
        assert_eq!(words.len(), Incident::ALL.len(), "a key would mean two things");
        for one in Incident::ALL {
            assert_eq!(Incident::opened_by(one.opened_by), Some(one), "{}", one.word);
            match one.end {
                End::With(ends) => {
                    assert!(!ends.is_empty(), "{} never ends, and does not say why", one.word);
                    assert!(!ends.contains(&one.opened_by), "{} ends as it begins", one.word);
                    for end in ends {
                        let closed: Vec<_> = Incident::closed_by(*end, Kind::ALL).collect();
                        assert!(closed.contains(&one), "{end} ends {}", one.word);
                    }
                }
                End::ByHand(why) => assert!(!why.is_empty(), "{}", one.word),
            }
        }
    }

    #[test]
    fn what_asks_something_of_people_opens_an_incident_or_is_what_a_person_did() {
        for kind in Kind::ALL {
            let opens = Incident::opened_by(*kind).is_some();
            let asks = kind.severity() > Severity::Info && *kind != RolloutAborted;
            assert_eq!(opens, asks, "{kind}");
        }
    }

    #[test]
    fn the_end_of_a_rollout_closes_whatever_it_had_open() {
        for one in Incident::ALL.iter().filter(|one| one.about == About::Rollout) {
            let superseded = Incident::closed_by(RolloutSuperseded, Kind::ALL).any(|it| it == one);
            assert!(superseded, "{}", one.word);
        }
        let closed = Incident::closed_by(RolloutMoves, Kind::ALL).collect::<Vec<_>>();
        assert_eq!(closed.iter().map(|one| one.word).collect::<Vec<_>>(), ["held", "expired"]);
        assert_eq!(Incident::closed_by(RolloutMoves, &[RolloutHalted]).count(), 0);
    }

    #[test]
    fn a_key_is_short_and_says_what_it_is_about() {
        let fleet: FleetId = "f".repeat(49).parse().unwrap();
        let name = "e".repeat(32);
        let event = Event {
            at: UnixTime(1),
            kind: RolloutHeld,
            service: Some(name.parse().unwrap()),
            env: Some(name.parse().unwrap()),
            rollout: Some(Digest::of(b"rollout")),
            host: Some("abcdefghij23".parse().unwrap()),
            text: String::new(),
            detail: serde_json::json!({}),
        };
        for one in Incident::ALL {
            let [key] = &one.keys(&fleet, &event)[..] else { panic!("{}", one.word) };
            assert!(key.len() <= 200 && key.ends_with(&format!("/{}", one.word)), "{key}");
        }
        let held = Incident::opened_by(RolloutHeld).unwrap();
        let id = format!("{:#}", Digest::of(b"rollout"));
        assert_eq!(
            held.keys(&"shop-1".parse().unwrap(), &event),
            [format!("groundswell/shop-1/rollout/{id}/held")]
        );
        assert_eq!(held.keys(&fleet, &Event { rollout: None, ..event }), [""; 0]);
    }
}
