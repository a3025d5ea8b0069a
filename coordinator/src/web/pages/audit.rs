//! The audit record (R30): who did what, when and why, by whose key; the newest first.

use axum::extract::{Query, State};
use axum::response::Response;
use maud::{Markup, html};
use proto::audit::{Entry, Head};
use proto::wire::AuditQuery;
use serde::Deserialize;

use super::super::Web;
use super::super::gate::Guest;
use super::super::live::Board;
use super::super::page::{counted, encoded, refused, time};
use super::show;
use crate::audit::Verified;
use crate::desk::out_of_order;

/// Entries on one page.
const PAGE: u32 = 50;

/// Which entries, and before which of them.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    /// A part of the subject, or of what is told of it.
    #[serde(default)]
    q: String,
    before: Option<u64>,
}

pub(super) async fn list(
    State(web): State<Web>,
    guest: Guest,
    Query(wanted): Query<Wanted>,
) -> Response {
    let query = AuditQuery {
        newest_first: true,
        beyond: wanted.before,
        limit: PAGE,
        subject: Some(wanted.q.trim().to_owned()).filter(|text| !text.is_empty()),
        ..AuditQuery::default()
    };
    let page = match web.desk.store.audit_page(&query).await {
        Ok(page) => page,
        Err(error) => return refused(&out_of_order("read the record", &error)),
    };
    let verified = web.desk.record.borrow().verified.clone();
    let mut board = Board::default();
    board.frame(html! {
        h1 { "Audit" }
        (standing(&verified, page.head))
        form method="get" action="/audit" role="search" {
            label for="q" { "Subject: a host, a release, a digest, an environment" }
            p class="buttons" {
                input id="q" name="q" type="search" value=(wanted.q);
                button { "Search" }
            }
        }
        (table(&page.entries))
        @if let Some(next) = page.next {
            p { a class="button" href={ "/audit?q=" (encoded(&wanted.q)) "&before=" (next) } { "Earlier" } }
        }
    });
    show(&web, &guest, "Audit", &board, None)
}

fn standing(verified: &Verified, head: Head) -> Markup {
    let entries = counted(usize::try_from(head.length).unwrap_or(usize::MAX), "entry");
    let entries = entries.replace("entrys", "entries");
    html! {
        @match verified {
            Verified::Pending => { p class="quiet" { (entries) "; being verified" } },
            Verified::Sound(sound) => { p class="quiet" { (entries) "; verified at the start, up to entry " (sound.length) } },
            Verified::Broken(why) => { p class="bad" { (entries) "; " (why) } },
        }
        p class="line" { "To verify it where your key is, with what hosts remember of it: " code { "swell audit --verify" } }
    }
}

fn table(entries: &[Entry]) -> Markup {
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Entries" {
            table {
                thead { tr { th scope="col" { "Entry" } th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" } th scope="col" { "To what" } th scope="col" { "Why" } } }
                tbody {
                    @for entry in entries {
                        tr {
                            td { (entry.seq) }
                            td { (time(entry.at)) }
                            td { (entry.actor) }
                            td { (entry.action) }
                            td { (subject(&entry.subject)) }
                            td { (reason(&entry.detail)) }
                        }
                    }
                }
            }
        }
    }
}

/// With a link, where there is a page about it.
fn subject(subject: &str) -> Markup {
    let digest =
        |text: &str| html! { code title=(text) { (text.chars().take(12).collect::<String>()) } };
    html! {
        @match subject.split_once(' ') {
            Some(("rollout", id)) => { a href={ "/rollouts/" (id) } { "rollout " (digest(id)) } },
            Some(("host", id)) if id.len() == 12 => { a href={ "/hosts/" (id) } { "host " (id) } },
            Some((kind, id)) if id.len() == 64 => { (kind) " " (digest(id)) },
            _ => { (subject) },
        }
    }
}

/// The reason in an entry's detail, if there is one.
fn reason(detail: &str) -> String {
    let detail: serde_json::Value = serde_json::from_str(detail).unwrap_or_default();
    detail["about"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::AuditFault;

    #[test]
    fn what_is_wrong_with_the_record_is_told_once() {
        let fault = crate::store::VerifyError::from(AuditFault::Edited { seq: 3 });
        let told = standing(&Verified::Broken(member::chain(&fault)), Head::EMPTY).0;
        for once in ["not what was written", "entry 3 was changed"] {
            assert_eq!(told.matches(once).count(), 1, "{told}");
        }
    }

    #[test]
    fn an_entry_says_why_and_leads_to_what_it_is_about() {
        assert_eq!(reason(r#"{"about":{"reason":"slow"},"keys":[]}"#), "slow");
        assert_eq!((reason("{}"), reason("no json")), (String::new(), String::new()));
        let id = "ab".repeat(32);
        assert!(subject(&format!("rollout {id}")).0.contains(&format!("href=\"/rollouts/{id}\"")));
        assert!(subject("host abcdefghij23").0.contains("href=\"/hosts/abcdefghij23\""));
        assert_eq!(subject("release web 1.0").0, "release web 1.0");
    }
}
