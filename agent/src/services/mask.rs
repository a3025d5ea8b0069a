//! Values of `shared/env` stay on their host: whatever a command says is shown without them.

use super::Variables;

/// What stands for a value.
const MASK: &str = "***";
/// Shorter values are told from ordinary words by nobody, and are no secrets.
const VALUE_BYTES_MIN: usize = 6;

/// The values to hide, longest first: one may be part of another.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Mask(Vec<String>);

impl Mask {
    pub fn new(variables: &Variables) -> Self {
        let long = variables.iter().map(|(_, value)| value.trim());
        let mut values: Vec<_> =
            long.filter(|value| value.len() >= VALUE_BYTES_MIN).map(str::to_owned).collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Self(values)
    }

    /// `text` without the values, nor what is left of one where the text was cut off at either end.
    pub fn hide(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            if text.contains(value.as_str()) {
                text = text.replace(value.as_str(), MASK);
            }
        }
        for value in &self.0 {
            let cuts = value.char_indices().map(|(at, _)| at);
            if let Some(head) = cuts
                .clone()
                .rev()
                .map(|at| &value[..at])
                .find(|head| head.len() >= VALUE_BYTES_MIN && text.ends_with(head))
            {
                text.replace_range(text.len() - head.len().., MASK);
            }
            if let Some(tail) = cuts
                .skip(1)
                .map(|at| &value[at..])
                .find(|tail| tail.len() >= VALUE_BYTES_MIN && text.starts_with(tail))
            {
                text.replace_range(..tail.len(), MASK);
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_hidden_wherever_they_stand() {
        let variables = Variables::from([
            ("PASSWORD", "hunter2hunter2"),
            ("URL", "postgres://web:hunter2hunter2@db/web"),
            ("SHORT", "12345"),
            ("EMPTY", ""),
            ("SPACED", "  padded value "),
        ]);
        let mask = Mask::new(&variables);
        let cases = [
            ("the password is hunter2hunter2, is it?", "the password is ***, is it?"),
            ("postgres://web:hunter2hunter2@db/web", "***"),
            ("hunter2hunter2hunter2hunter2", "******"),
            ("12345 and hunter2", "12345 and ***"),
            ("cut off at its end: postgres://we", "cut off at its end: ***"),
            ("r2hunter2 was cut off at its start", "*** was cut off at its start"),
            ("r2hunter2", "r2***"),
            ("hunt, a word", "hunt, a word"),
            ("a padded value", "a ***"),
            ("ümlaut", "ümlaut"),
            ("", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(mask.hide(text), expected, "{text}");
        }
        assert_eq!(Mask::default().hide("hunter2hunter2"), "hunter2hunter2");
    }
}
