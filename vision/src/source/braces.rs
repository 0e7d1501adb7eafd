//! Patterns with braces, as shards are named with: `train-{000000..000129}.tar`, `{a,b}.tar`.

/// The most paths that a pattern may stand for.
const MOST: usize = 1 << 20;

/// All texts that `pattern` stands for; `None` where it has no braces that stand for something.
///
/// # Errors
/// When it stands for too much; the text says so.
pub(crate) fn expand(pattern: &str) -> Result<Option<Vec<String>>, String> {
    let Some((before, rest)) = pattern.split_once('{') else { return Ok(None) };
    let Some((inside, after)) = rest.split_once('}') else { return Ok(None) };
    let choices = choices_of(inside)?;
    let rest = expand(after)?.unwrap_or_else(|| vec![after.to_owned()]);
    if choices.len().saturating_mul(rest.len()) > MOST {
        return Err(too_many());
    }
    let all = choices.iter().flat_map(|choice| rest.iter().map(move |rest| format!("{before}{choice}{rest}")));
    Ok(Some(all.collect()))
}

fn too_many() -> String {
    format!("stands for more than {MOST} files")
}

/// What braces with `inside` in them stand for.
fn choices_of(inside: &str) -> Result<Vec<String>, String> {
    match (inside.split_once(".."), inside.contains(',')) {
        (Some((from, to)), false) => numbers(from, to),
        (None, true) => Ok(inside.split(',').map(str::to_owned).collect()),
        _ => Err(format!("`{{{inside}}}` is neither a range such as {{000..129}} nor a list such as {{a,b}}")),
    }
}

/// The numbers of a range, upward or downward, as wide as the first where that begins with 0.
fn numbers(from: &str, to: &str) -> Result<Vec<String>, String> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<u64>().ok().filter(|_| digits);
        number.ok_or_else(|| format!("`{{{from}..{to}}}`: `{text}` is no whole number"))
    };
    let (first, last) = (number(from)?, number(to)?);
    if first.abs_diff(last) >= MOST as u64 {
        return Err(too_many());
    }
    let padded = [from, to].iter().any(|text| text.len() > 1 && text.starts_with('0'));
    let width = if padded { from.len().max(to.len()) } else { 0 };
    let (low, high) = (first.min(last), first.max(last));
    Ok((low..=high).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_lists_are_written_out() {
        let all = |pattern: &str| expand(pattern).unwrap().unwrap_or_default();
        assert_eq!(all("t-{008..011}.tar"), ["t-008.tar", "t-009.tar", "t-010.tar", "t-011.tar"]);
        assert_eq!(all("{9..10}"), ["9", "10"]);
        assert_eq!(all("{a,b}-{0..1}"), ["a-0", "a-1", "b-0", "b-1"]);
        assert_eq!([expand("x.tar"), expand("x{"), expand("}x")], [Ok(None), Ok(None), Ok(None)]);
    }

    #[test]
    fn patterns_that_stand_for_nothing_or_too_much_are_refused() {
        for pattern in ["{}", "{a}", "{a..b}", "{1..}", "{0..99999999}", "{0..9999}{0..9999}", "{-1..3}"] {
            assert!(expand(pattern).is_err(), "{pattern}");
        }
    }
}
