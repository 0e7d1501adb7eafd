//! The figures of docs/protocol.md are those of the code.
//!
//! In a table row that names a constant as `folder/file.rs::NAME`, or a field that a struct literal of the file sets as
//! `folder/file.rs::field`, the rest of the row must have its value: `4 MiB`, `1,024`, `0.2 s`.

use std::collections::BTreeMap;

use syn::visit::{self, Visit};
use syn::{BinOp, Expr, FieldValue, ImplItemConst, ItemConst, Lit, Member};

use crate::pages::code_spans;
use crate::report::{Finding, check};
use crate::workspace::Workspace;

#[test]
fn figures_of_the_protocol_are_those_of_the_code() {
    let workspace = Workspace::read();
    let page = "docs/protocol.md";
    let text = workspace.text(page);
    let known = Values::of(&workspace);
    let mut findings = Vec::new();
    let mut compared = 0;
    for (number, row) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        for (_, span) in code_spans(row).into_iter().filter(|(_, span)| span.contains(".rs::")) {
            let Some((path, name)) = span.rsplit_once("::") else { continue };
            let Some(value) = known.value(path, name) else { continue };
            compared += 1;
            let forms = value.forms();
            if !forms.iter().any(|form| has_word(&prose(row), form)) {
                let message = format!("the code has {}, which this row does not say; write it", forms.join(" or "));
                findings.push(Finding { file: page.into(), line: number + 1, key: span, message });
            }
        }
    }
    check("docs/protocol.md has the figures of the code.", findings, &[]);
    assert!(compared >= 20, "only {compared} figures were compared: rows name their constants as `file.rs::NAME`");
}

/// A row without what stands in code type.
fn prose(row: &str) -> String {
    row.split('`').step_by(2).collect::<Vec<&str>>().join(" ")
}

/// Whether `text` has `word`, and not as a part of a longer number or word.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + word.len()..].chars();
        let next = after.next();
        let is_part = |c: char| c.is_alphanumeric();
        let goes_on = next.is_some_and(|c| ".,".contains(c)) && after.next().is_some_and(|c| c.is_ascii_digit());
        !before.is_some_and(|c| is_part(c) || ".,".contains(c)) && !next.is_some_and(is_part) && !goes_on
    })
}

/// The value of a constant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Number(u128),
    Millis(u128),
}

impl Value {
    /// The ways to write it.
    pub(crate) fn forms(self) -> Vec<String> {
        let units: &[(u128, &str)] = match self {
            Value::Number(_) => &[(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")],
            Value::Millis(_) => &[(365 * 86_400_000, "years"), (86_400_000, "days"), (3_600_000, "hours"), (1000, "s")],
        };
        let (Value::Number(value) | Value::Millis(value)) = self;
        let whole = units.iter().filter(|(unit, _)| value > 0 && value.is_multiple_of(*unit));
        let mut forms: Vec<String> = whole.map(|(unit, name)| format!("{} {name}", grouped(value / unit))).collect();
        match self {
            Value::Number(value) => forms.push(grouped(value)),
            Value::Millis(value) if value.is_multiple_of(1000) => {}
            Value::Millis(value) => {
                let decimal = format!("{}.{:03}", value / 1000, value % 1000);
                forms.extend([format!("{value} ms"), format!("{} s", decimal.trim_end_matches('0'))]);
            }
        }
        forms
    }
}

/// `65536` as `65,536`.
fn grouped(value: u128) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Constants, and fields in struct literals, by file and name.
#[derive(Default)]
pub(crate) struct Values {
    file: String,
    expressions: BTreeMap<(String, String), Expr>,
}

impl Values {
    /// Those of all libraries and binaries.
    pub(crate) fn of(workspace: &Workspace) -> Values {
        let mut values = Values::default();
        for (_, target) in workspace.targets().filter(|(_, target)| target.is_product) {
            let tree = workspace.tree(target);
            for (_, module) in tree.product_modules() {
                values.file.clone_from(&tree.files[module.file].path);
                module.items.iter().for_each(|item| values.visit_item(item));
            }
        }
        values
    }

    fn value(&self, file: &str, name: &str) -> Option<Value> {
        let expression = self.expressions.get(&(file.to_owned(), name.to_owned()))?;
        self.evaluate(file, expression)
    }

    /// The value of an expression in `file`.
    pub(crate) fn evaluate(&self, file: &str, expression: &Expr) -> Option<Value> {
        match expression {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Int(number) => number.base10_parse().ok().map(Value::Number),
                _ => None,
            },
            Expr::Paren(inner) => self.evaluate(file, &inner.expr),
            Expr::Cast(inner) => self.evaluate(file, &inner.expr),
            Expr::Binary(pair) => {
                let left = self.evaluate(file, &pair.left)?;
                let Value::Number(right) = self.evaluate(file, &pair.right)? else { return None };
                let apply = |left: u128| match pair.op {
                    BinOp::Add(_) => Some(left + right),
                    BinOp::Sub(_) => Some(left - right),
                    BinOp::Mul(_) => Some(left * right),
                    BinOp::Div(_) => Some(left / right),
                    BinOp::Shl(_) => Some(left << right),
                    _ => None,
                };
                match left {
                    Value::Number(left) => apply(left).map(Value::Number),
                    Value::Millis(left) => apply(left).map(Value::Millis),
                }
            }
            Expr::Path(path) => {
                // Constants alone: a variable may have the name of the field that it fills.
                let name = path.path.segments.last()?.ident.to_string();
                name.chars().any(|c| c.is_uppercase()).then_some(())?;
                self.value(file, &name).or_else(|| self.only_value_of(&name))
            }
            Expr::Call(call) => {
                let Expr::Path(function) = &*call.func else { return None };
                let unit = match function.path.segments.last()?.ident.to_string().as_str() {
                    "from_hours" => 3_600_000,
                    "from_mins" => 60_000,
                    "from_secs" | "seconds" => 1000,
                    "from_millis" | "millis" => 1,
                    _ => return None,
                };
                let Value::Number(count) = self.evaluate(file, call.args.first()?)? else { return None };
                Some(Value::Millis(count * unit))
            }
            _ => None,
        }
    }

    /// The value of the one constant of this name in the workspace.
    fn only_value_of(&self, name: &str) -> Option<Value> {
        let mut files = self.expressions.keys().filter(|(_, known)| known == name);
        let (file, name) = files.next()?;
        if files.next().is_some() { None } else { self.value(file, name) }
    }
}

impl<'ast> Visit<'ast> for Values {
    fn visit_item_const(&mut self, item: &'ast ItemConst) {
        self.expressions.insert((self.file.clone(), item.ident.to_string()), (*item.expr).clone());
    }

    fn visit_impl_item_const(&mut self, item: &'ast ImplItemConst) {
        self.expressions.insert((self.file.clone(), item.ident.to_string()), item.expr.clone());
    }

    fn visit_field_value(&mut self, field: &'ast FieldValue) {
        if let Member::Named(name) = &field.member {
            let key = (self.file.clone(), name.to_string());
            if self.evaluate(&key.0, &field.expr).is_some() {
                self.expressions.entry(key).or_insert_with(|| field.expr.clone());
            }
        }
        visit::visit_field_value(self, field);
    }
}

#[test]
fn constants_are_evaluated_and_written() {
    let text = "const A: usize = 8 * B * B + (1 << 20); const B: usize = 2_048;
        const C: Duration = Duration::from_millis(200); const D: Duration = Duration::from_secs(24 * 3600);
        fn f() { Plan { floor: Micros::seconds(2), factor: 4 } }";
    let mut values = Values { file: "a.rs".into(), ..Values::default() };
    values.visit_file(&syn::parse_file(text).expect("it is Rust"));
    let forms = |name| values.value("a.rs", name).map(Value::forms).unwrap_or_default();
    assert_eq!(forms("A"), ["33 MiB", "33,792 KiB", "34,603,008"]);
    assert_eq!(forms("C"), ["200 ms", "0.2 s"]);
    assert_eq!(forms("D"), ["1 days", "24 hours", "86,400 s"]);
    assert_eq!((forms("floor"), forms("factor")), (vec!["2 s".into()], vec!["4".into()]));
}

#[test]
fn a_figure_is_a_word_of_its_own() {
    assert!(has_word("max(0.2 s, 2 x expected)", "0.2 s") && has_word("max(0.2 s, 2 x expected)", "2"));
    for other in ["12 s", "2,000 s", "0.2 s", "2 seconds"] {
        assert!(!has_word(other, "2 s"), "{other}");
    }
}
