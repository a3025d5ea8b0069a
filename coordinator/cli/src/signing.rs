//! `swell sign`: signs what a page has prepared, once it was shown in words.

use ed25519_dalek::SigningKey;
use proto::dsse::Envelope;
use proto::id::{Digest, KeyId};
use proto::key::PublicKey;
use proto::statement::{ENVELOPE_BYTES_MAX, Statement};
use proto::wire::{ControlReply, ControlRequest};

use crate::args::DraftArgs;
use crate::client::Client;
use crate::failure::{Advise, Exit, Failure};
use crate::{approve, ask, output, render, sign};

/// Why nothing was signed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DraftError {
    #[error("what was prepared as {id} is something else: {why}")]
    Other { id: Digest, why: String },
    #[error("{id} was prepared for key {author}, and yours is {own}")]
    NotMine { id: Digest, author: KeyId, own: KeyId },
}

impl Advise for DraftError {
    fn next(&self) -> Option<String> {
        Some(match self {
            Self::Other { .. } => "sign nothing of it; look at the coordinator".to_owned(),
            Self::NotMine { .. } => "sign in with the key that is to sign: swell login".to_owned(),
        })
    }
}

/// # Errors
///
/// Whatever keeps it from being signed, as above.
pub(crate) async fn run(
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
    let (mut envelope, text) = read(&envelope, id, &KeyId::of(&PublicKey::of(key)))?;
    output::write(&text);
    ask::confirm("sign this", yes)?;
    envelope.sign(key);
    Ok(sign::submit(client, "sign", &envelope).await?.exit())
}

/// The draft, and what it says in words. Who prepared it is not believed: the digest names the payload.
fn read(bytes: &[u8], id: Digest, own: &KeyId) -> Result<(Envelope, String), DraftError> {
    let other = |why: String| DraftError::Other { id, why };
    let mut envelope =
        Envelope::parse(bytes, ENVELOPE_BYTES_MAX).map_err(|error| other(error.to_string()))?;
    envelope.retain_signatures(|_| false);
    if envelope.id() != id {
        return Err(other(format!("its digest is {}", envelope.id())));
    }
    let statement = Statement::parse(&envelope).map_err(|error| other(error.to_string()))?;
    let kind = statement.kind().name();
    let (author, reason, text) =
        approve::said(&statement).ok_or_else(|| other(format!("it is a {kind}")))?;
    if author != own {
        return Err(DraftError::NotMine { id, author: author.clone(), own: own.clone() });
    }
    let reason = render::plain(reason);
    Ok((envelope, format!("{kind} {id}: {text}\n  reason    {reason}\n")))
}

#[cfg(test)]
mod tests {
    use proto::statement::{Action, Directive, Payload as _, UnixTime};

    use super::*;

    fn draft(author: &KeyId) -> Envelope {
        Directive {
            fleet: "acme-abcd2345".parse().unwrap(),
            rollout: Digest::of(b"rollout"),
            sequence: 3,
            action: Action::Resume,
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
        let envelope = draft(&key(1));
        let (bytes, id) = (envelope.to_bytes(), envelope.id());
        let (_, text) = read(&bytes, id, &key(1)).unwrap();
        assert!(text.contains("resume") && text.contains("looked at it"), "{text}");
        let swapped = read(&draft(&key(2)).to_bytes(), id, &key(1));
        assert!(matches!(swapped, Err(DraftError::Other { .. })), "another payload");
        let others = read(&bytes, id, &key(2));
        assert!(matches!(others, Err(DraftError::NotMine { .. })));
        assert!(read(b"{}", id, &key(1)).is_err());
    }
}
