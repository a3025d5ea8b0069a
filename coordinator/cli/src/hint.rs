//! Commands that people are told to type next. Where a host was asked, the coordinator may be gone: so
//! they go to that host, too.

/// What hosts answer, too.
const HOSTS_ANSWER: [&str; 22] = [
    "abort", "approve", "deploy", "explain", "freeze", "history", "host", "hosts", "pause", "plan",
    "promote", "releases", "resume", "retry", "rollback", "skip", "status", "unfreeze", "watch",
    "doctor", "adopt", "logs",
];

/// The text, with `--via` in each command in it that a host answers.
pub(crate) fn via(host: Option<&str>, text: &str) -> String {
    let Some(host) = host else { return text.to_owned() };
    let mut parts = text.split("swell ");
    let mut told = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let word = part.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
        let command = HOSTS_ANSWER.contains(&word)
            && !told.ends_with(char::is_alphanumeric)
            && !part.contains("--via");
        told.push_str("swell ");
        if command {
            told.push_str(&format!("--via {host} "));
        }
        told.push_str(part);
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_go_to_the_host_that_was_asked() {
        let text =
            "to follow it: swell watch ab12\n  next: swell approve ab12, or swell abort ab12\n";
        assert_eq!(via(None, text), text);
        assert_eq!(
            via(Some("10.0.0.22:7070"), text),
            "to follow it: swell --via 10.0.0.22:7070 watch ab12\n  next: swell --via \
             10.0.0.22:7070 approve ab12, or swell --via 10.0.0.22:7070 abort ab12\n"
        );
        for others in [
            "swell token create --label env=x",
            "swell --dir DIR init --fleet NAME",
            "swell publish DIR --version V",
            "swell watch ab12 --via HOST later",
            "the file swell.toml",
            "paused: swell bug 17",
            "groundswell is a word",
        ] {
            assert_eq!(via(Some("n1"), others), others);
        }
    }
}
