//! What holds for any message.

use proptest::prelude::*;

use super::*;

proptest! {
    /// Whatever a member sends, the filter ends with a judgement, and what it passes chitchat reads.
    #[test]
    fn r11_any_bytes_are_judged(kind in 0u8..4, body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut filter = filter();
        for bytes in [body.clone(), message(kind, &[&body])] {
            if let Ok(passed) = filter.judge(&bytes, NOW_MS, Instant::now()) {
                prop_assert!(ChitchatMessage::deserialize(&mut &passed.message[..]).is_ok());
            }
        }
    }

    /// An honest message, damaged anywhere, is judged; and it can never make anyone say something
    /// else than they signed.
    #[test]
    fn r11_damaged_messages_never_change_what_is_said(at: prop::sample::Index, flip in 1u8..) {
        let (a, b) = (life("a"), life("b"));
        let honest = vec![news(&a, "a"), news(&b, "b")];
        let sent = Message::SynAck { digest: vec![heard(a), heard(b)], delta: honest.clone() };
        let mut bytes = encode(&sent);
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        if let Ok(passed) = filter().judge(&bytes, NOW_MS, Instant::now()) {
            prop_assert!(ChitchatMessage::deserialize(&mut &passed.message[..]).is_ok());
            let Message::SynAck { delta, .. } = decode(&passed.message).unwrap() else {
                return Err(TestCaseError::fail("another type"));
            };
            for news in delta {
                let same = honest.iter().any(|honest| honest.who == news.who
                    && (news.values.is_empty() || honest.values == news.values));
                prop_assert!(same, "{news:?}");
            }
        }
    }

    /// What is written is what is read.
    #[test]
    fn r11_messages_survive_being_written(
        generations in prop::collection::btree_set(any::<u64>(), 0..20),
        ip: std::net::IpAddr,
        text in "\\PC{0,80}",
        kind in 0u8..4,
    ) {
        let who = |generation| Incarnation { generation, addr: SocketAddr::new(ip, 7), ..life("a") };
        let digest: Vec<_> = generations.iter().map(|g| heard(who(*g))).collect();
        let values = vec![Written { key: "h".to_owned(), text, version: 3 }];
        let delta: Vec<_> = generations
            .iter()
            .map(|g| News { who: who(*g), after: 2, values: values.clone() })
            .collect();
        let sent = match kind {
            0 => syn(digest),
            1 => Message::SynAck { digest, delta },
            2 => ack(delta),
            _ => Message::BadCluster,
        };
        prop_assert_eq!(decode(&encode(&sent)), Ok(sent));
    }
}
