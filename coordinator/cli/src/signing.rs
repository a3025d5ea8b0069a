//! `swell sign`: signs what a page has prepared, once it was shown in words.

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::id::{Digest, KeyId};
use proto::key::PublicKey;
use proto::statement::{Action, Directive, ENVELOPE_BYTES_MAX, Statement};
use proto::wire::{ControlReply, ControlRequest};

use crate::args::{DraftArgs, RolloutRef};
use crate::client::Client;
use crate::failure::{Advise, Exit, Failure};
use crate::home::Home;
use crate::knowledge::Knowledge;
use crate::render::fleet::phase;
use crate::sign::Found;
use crate::{ask, directive, output, render, sign};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    #[error("what was prepared as {id} is something else: {why}")]
    Other { id: Digest, why: String },
    #[error("{id} was prepared for key {author}, and yours is {own}")]
    NotMine { id: Digest, author: KeyId, own: KeyId },
    #[error("{id} was prepared before somebody else directed rollout {rollout}")]
    Overtaken { id: Digest, rollout: Digest },
}

impl Advise for DraftError {
    fn next(&self) -> Option<String> {
        Some(match self {
            Self::Other { .. } => "sign nothing of it; look at the coordinator".to_owned(),
            Self::NotMine { .. } => "sign in with the key that is to sign: swell login".to_owned(),
            Self::Overtaken { rollout, .. } => {
                format!("swell explain {rollout}, then prepare it again if it is still wanted")
            }
        })
    }
}

/// # Errors
///
/// Whatever keeps it from being signed, as above; or the rollout that it is about is not what it takes.
pub(crate) async fn run(
    home: &Home,
    client: &Client,
    key: &SigningKey,
    args: DraftArgs,
) -> Result<Exit, Failure> {
    let DraftArgs { digest: id, yes } = args;
    let what = "fetch what was prepared";
    let ControlReply::Statement { envelope } =
        client.ask(what, &ControlRequest::Draft { id }).await?
    else {
        return Err(client.unexpected(what).into());
    };
    let (mut envelope, draft) = read(&envelope, id, &KeyId::of(&PublicKey::of(key)))?;
    // What it is about is told by the statement that people have signed, and not by whoever prepared it.
    let mut knowledge = Knowledge::new(client, home.chain()?);
    let about = RolloutRef::Id(format!("{:#}", draft.rollout));
    let found = sign::find(client, &mut knowledge, &about).await?;
    if let Some(text) = directive::needless(&found.report, &found.rollout, draft.action)? {
        output::write(&text);
        return Ok(Exit::Done);
    }
    let sequence = sign::newest_sequence(client, &mut knowledge, &found).await?;
    if draft.sequence <= sequence {
        return Err(DraftError::Overtaken { id, rollout: draft.rollout }.into());
    }
    output::write(&said(&found, &draft, &id));
    ask::confirm("sign this", yes)?;
    envelope.sign(key);
    Ok(sign::submit(client, "sign", &envelope).await?.exit())
}

/// What would be signed, in words: what it does to which rollout, and how that stands.
fn said(Found { report, rollout, .. }: &Found, draft: &Directive, id: &Digest) -> String {
    format!(
        "{} {} ({})\n  stands    {}: {}\n{}  reason    {}\n  digest    {id:#}\n",
        directive::verb(draft.action),
        render::rollout::title(report),
        draft.rollout,
        phase(report.phase),
        render::plain(&report.why),
        directive::meaning(report, rollout, draft.action, draft.wave),
        render::plain(&draft.reason),
    )
}

/// The draft, which lets a rollout go on: pages prepare nothing else. Who prepared it is not believed: the
/// digest names the payload.
fn read(bytes: &[u8], id: Digest, own: &KeyId) -> Result<(Envelope, Directive), DraftError> {
    let other = |why: String| DraftError::Other { id, why };
    let mut envelope =
        Envelope::parse(bytes, ENVELOPE_BYTES_MAX).map_err(|error| other(error.to_string()))?;
    envelope.retain_signatures(|_| false);
    if envelope.id() != id {
        return Err(other(format!("its digest is {}", envelope.id())));
    }
    let statement = Statement::parse(&envelope).map_err(|error| other(error.to_string()))?;
    let directive = match statement {
        Statement::Directive(directive)
            if matches!(directive.action, Action::Resume | Action::Promote) =>
        {
            directive
        }
        Statement::Directive(directive) => {
            let verb = directive::verb(directive.action);
            return Err(other(format!("it would {verb}, which has a command of its own")));
        }
        other_kind => return Err(other(format!("it is a {}", other_kind.kind().name()))),
    };
    if directive.author != *own {
        return Err(DraftError::NotMine { id, author: directive.author, own: own.clone() });
    }
    Ok((envelope, directive))
}

#[cfg(test)]
mod tests {
    use proto::statement::{Payload as _, UnixTime};

    use super::*;

    fn draft(author: &KeyId, action: Action) -> Envelope {
        Directive {
            fleet: "acme-abcd2345".parse().unwrap(),
            rollout: Digest::of(b"rollout"),
            sequence: 3,
            action,
            wave: None,
            host: None,
            author: author.clone(),
            created: UnixTime(1),
            reason: "looked at it".to_owned(),
            critical: Vec::new(),
        }
        .envelope()
    }

    fn key(seed: u8) -> KeyId {
        KeyId::of(&PublicKey::of(&SigningKey::from_bytes(&[seed; 32])))
    }

    #[test]
    fn r3_only_what_was_asked_for_and_is_ones_own_is_signed() {
        let envelope = draft(&key(1), Action::Resume);
        let (bytes, id) = (envelope.to_bytes(), envelope.id());
        let (_, directive) = read(&bytes, id, &key(1)).unwrap();
        assert_eq!((directive.action, directive.reason.as_str()), (Action::Resume, "looked at it"));
        let swapped = read(&draft(&key(2), Action::Resume).to_bytes(), id, &key(1));
        assert!(matches!(swapped, Err(DraftError::Other { .. })), "another payload");
        let others = read(&bytes, id, &key(2));
        assert!(matches!(others, Err(DraftError::NotMine { .. })));
        assert!(read(b"{}", id, &key(1)).is_err());
        // What has commands of its own, which say what follows.
        for action in [Action::Pause, Action::Abort] {
            let envelope = draft(&key(1), action);
            let read = read(&envelope.to_bytes(), envelope.id(), &key(1));
            let Err(DraftError::Other { why, .. }) = read else { panic!("{action:?}") };
            assert!(why.contains("a command of its own"), "{why}");
        }
    }
}
