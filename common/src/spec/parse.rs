//! From TOML text to a [`Spec`], with errors that show the line and suggest the nearest known key.

use toml::Value;
use toml::de::DeTable;

use super::Spec;
use super::check::check_spec;

/// A spec that cannot be read or does not make sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The text is not TOML, or a key or type is wrong. `text` shows the place.
    #[error("{text}")]
    Text {
        /// The error, with the line, its text and a suggestion.
        text: String,
    },
    /// An override is not `key.path=value`.
    #[error("--set {given}: expected key.path=value, for example --set optimizer.lr=0.05")]
    Override {
        /// The override as it was given.
        given: String,
    },
    /// A value that parses but does not make sense.
    #[error("{}`{key}`: {problem}", line.map(|line| format!("line {line}: ")).unwrap_or_default())]
    Value {
        /// Dotted path of the key.
        key: String,
        /// Its line in the text, where it stands there.
        line: Option<usize>,
        /// The error and a remedy.
        problem: String,
    },
}

impl SpecError {
    /// The same error with the line of its key in `text`, if the key stands there.
    pub fn located(self, text: &str) -> Self {
        match self {
            SpecError::Value { key, line: None, problem } => {
                SpecError::Value { line: line_of(text, &key), key, problem }
            }
            other => other,
        }
    }
}

/// Reads a spec from `text` and applies `overrides` (`a.b=c`), in order.
///
/// A value of an override is TOML (`0.05`, `[1, 2]`, `true`); a value that is not TOML is taken as a string.
///
/// # Errors
/// On text that is not TOML, unknown keys, wrong types, and values out of their range.
pub fn parse(text: &str, overrides: &[String]) -> Result<Spec, SpecError> {
    let mut table: toml::Table =
        toml::from_str(text).map_err(|error| SpecError::Text { text: error.to_string().trim_end().to_owned() })?;
    for given in overrides {
        apply_override(&mut table, given)?;
    }
    let spec = if overrides.is_empty() {
        toml::from_str::<Spec>(text).map_err(explain)?
    } else {
        // The spans of the text are lost with overrides; check it alone first so that its own errors keep them.
        match toml::from_str::<Spec>(text) {
            Err(error) if !error.message().starts_with("missing field") => return Err(explain(error)),
            _ => Value::Table(table).try_into::<Spec>().map_err(explain)?,
        }
    };
    check_spec(&spec).map_err(|(key, problem)| SpecError::Value { line: line_of(text, &key), key, problem })?;
    Ok(spec)
}

/// The spec as TOML, with every default that is in force.
pub fn to_toml(spec: &Spec) -> String {
    toml::to_string(spec).expect("a spec holds nothing that TOML cannot express")
}

fn apply_override(table: &mut toml::Table, given: &str) -> Result<(), SpecError> {
    let bad = || SpecError::Override { given: given.to_owned() };
    let (path, value) = given.split_once('=').ok_or_else(bad)?;
    let value = value.trim();
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut parsed| parsed.remove("v"))
        .unwrap_or_else(|| Value::String(value.to_owned()));
    let mut keys: Vec<&str> = path.split('.').map(str::trim).collect();
    let last = keys.pop().filter(|key| !key.is_empty()).ok_or_else(bad)?;
    let mut table = table;
    for key in keys {
        let entry = table.entry(key).or_insert_with(|| Value::Table(toml::Table::new()));
        table = entry.as_table_mut().ok_or_else(bad)?;
    }
    table.insert(last.to_owned(), value);
    Ok(())
}

/// Adds the nearest known key to serde's "unknown field" and "unknown variant".
fn explain(error: toml::de::Error) -> SpecError {
    let mut text = error.to_string().trim_end().to_owned();
    let quoted: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
    if error.message().starts_with("unknown ")
        && let Some((unknown, known)) = quoted.split_first()
        && let Some(nearest) = nearest(unknown, known)
    {
        text.push_str(&format!("\ndid you mean `{nearest}`?"));
    }
    SpecError::Text { text }
}

/// The word most like `word`, when one is near enough to be meant.
pub fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let best = known.iter().max_by(|a, b| strsim::jaro_winkler(word, a).total_cmp(&strsim::jaro_winkler(word, b)))?;
    (strsim::jaro_winkler(word, best) > 0.7).then_some(best)
}

/// Whether the dotted `key` stands in `text` or is one of `overrides`, which are as for [`parse`].
pub fn names(text: &str, overrides: &[String], key: &str) -> bool {
    let given = |given: &String| given.split_once('=').is_some_and(|(given, _)| given.trim() == key);
    line_of(text, key).is_some() || overrides.iter().any(given)
}

/// The line (from 1) on which the dotted `key` stands in `text`.
fn line_of(text: &str, key: &str) -> Option<usize> {
    let table = DeTable::parse(text).ok()?;
    let mut table = table.get_ref();
    let mut keys = key.split('.').peekable();
    while let Some(part) = keys.next() {
        let (name, value) = table.iter().find(|(name, _)| name.get_ref().as_ref() == part)?;
        if keys.peek().is_none() {
            return Some(
                text[..name.span().start].lines().count().max(1)
                    + usize::from(text[..name.span().start].ends_with('\n')),
            );
        }
        table = value.get_ref().as_table()?;
    }
    None
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::super::*;
    use super::parse;

    fn check(text: &str, overrides: &[&str], expected: Expect) {
        let overrides: Vec<String> = overrides.iter().map(|given| (*given).to_owned()).collect();
        let error = parse(text, &overrides).expect_err("this spec should be refused");
        expected.assert_eq(&error.to_string());
    }

    #[test]
    fn a_small_spec_gets_defaults() {
        let spec = parse("[data]\ntrain = \"photos\"\n", &[]).unwrap();
        assert_eq!(spec.train.batch, 128);
        assert_eq!(spec.data, Data::at("photos"));
    }

    #[test]
    fn defaults_survive_a_round_trip() {
        let spec = parse("[data]\ntrain = \"photos\"\n", &[]).unwrap();
        assert_eq!(parse(&to_toml(&spec), &[]).unwrap(), spec);
    }

    #[test]
    fn overrides_win() {
        let spec = parse(
            "[data]\ntrain = \"a\"\n[optimizer]\nlr = 1.0\n",
            &["optimizer.lr=0.25".into(), "data.train=b c".into(), "prepare.size=[3, 4]".into()],
        )
        .unwrap();
        assert_eq!((spec.optimizer.lr, spec.data.train.as_str()), (0.25, "b c"));
        assert_eq!(spec.prepare.size, Size::Fixed([3, 4]));
    }

    #[test]
    fn depths_are_words_or_two_numbers() {
        let depth = |text: &str| parse(&format!("[data]\ntrain = \"x\"\n[prepare]\ndepth16 = {text}\n"), &[]);
        for (text, expected) in [
            ("\"high_byte\"", Depth16::HighByte),
            ("\"stretch\"", Depth16::Stretch),
            ("[0, 4095]", Depth16::Range([0, 4095])),
        ] {
            let spec = depth(text).unwrap();
            assert_eq!(spec.prepare.depth16, expected);
            assert_eq!(to_toml(&spec).contains("depth16"), expected != Depth16::HighByte);
            assert_eq!(parse(&to_toml(&spec), &[]).unwrap(), spec);
        }
        assert!(depth("[9, 9]").unwrap_err().to_string().contains("the first number must be the smaller one"));
        assert!(depth("\"low_byte\"").unwrap_err().to_string().contains("depth16 is \"high_byte\""));
    }

    #[test]
    fn training_data_may_come_from_an_override() {
        assert_eq!(parse("", &["data.train=x".into()]).unwrap().data.train, "x");
    }

    #[test]
    fn layers_are_read() {
        let text = r#"
            [data]
            train = "x"
            [network]
            layers = [
                { type = "conv", name = "conv1", out = 8, kernel = 3, padding = [1, 2] },
                { type = "residual", layers = [{ type = "relu" }] },
                { type = "max_pool", kernel = 2 },
            ]
        "#;
        let spec = parse(text, &[]).unwrap();
        assert_eq!(spec.network.layers.len(), 3);
        assert_eq!(spec.network.layers[0].name.as_deref(), Some("conv1"));
        assert_eq!(parse(&to_toml(&spec), &[]).unwrap(), spec);
    }

    #[test]
    fn a_typo_shows_its_line_and_the_nearest_key() {
        check(
            "[data]\ntrain = \"x\"\n[train]\nepoch = 3\n",
            &[],
            expect![[r#"
            TOML parse error at line 4, column 1
              |
            4 | epoch = 3
              | ^^^^^
            unknown field `epoch`, expected one of `epochs`, `batch`, `shard`, `last`, `compression`, `early_stopping`
            did you mean `epochs`?"#]],
        );
    }

    #[test]
    fn a_typo_in_a_layer_is_refused() {
        let text = "[data]\ntrain = \"x\"\n[network]\nlayers = [{ type = \"conv\", out = 8, kernle = 3 }]\n";
        let error = parse(text, &[]).unwrap_err().to_string();
        assert!(error.contains("kernle") || error.contains("kernel"), "{error}");
        let text =
            "[data]\ntrain = \"x\"\n[network]\nlayers = [{ type = \"conv\", out = 8, kernel = 3, pading = 1 }]\n";
        let error = parse(text, &[]).unwrap_err().to_string();
        assert!(error.contains("pading"), "{error}");
    }

    #[test]
    fn a_wrong_type_shows_its_line() {
        check(
            "[data]\ntrain = 3\n",
            &[],
            expect![[r#"
            TOML parse error at line 2, column 9
              |
            2 | train = 3
              |         ^
            invalid type: integer `3`, expected a string"#]],
        );
    }

    #[test]
    fn a_value_out_of_range_shows_its_line() {
        check(
            "[data]\ntrain = \"x\"\n\n[train]\nbatch = 0\n",
            &[],
            expect![[r#"line 5: `train.batch`: must be at least 1"#]],
        );
    }

    #[test]
    fn a_key_is_named_in_the_text_or_by_an_override() {
        let set = ["train.batch = 4".to_owned(), "numerics=x".to_owned()];
        for (text, overrides, key, named) in [
            ("seed = 1\n[data]\ntrain = \"numerics = 1\"", &[][..], "numerics", false),
            ("seed = 1\nnumerics = \"x\"", &[], "numerics", true),
            ("[train]\nnumerics = \"x\"", &set[..1], "numerics", false),
            ("", &set, "numerics", true),
            ("", &set, "train.batch", true),
            ("not TOML", &[], "numerics", false),
        ] {
            assert_eq!(super::names(text, overrides, key), named, "{text:?} {overrides:?}");
        }
    }

    #[test]
    fn a_bad_override_is_refused() {
        check("", &["lr"], expect!["--set lr: expected key.path=value, for example --set optimizer.lr=0.05"]);
        let error = parse("[data]\ntrain=\"x\"", &["optimizer.momentun=1".into()]).unwrap_err().to_string();
        assert!(error.ends_with("did you mean `momentum`?"), "{error}");
    }
}
