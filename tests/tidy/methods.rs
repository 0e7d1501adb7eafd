//! The table of methods in docs/protocol.md is the table of the code.

use syn::visit::{self, Visit};
use syn::{Expr, ExprCall, Lit};

use crate::constants::Values;
use crate::report::{Finding, check};
use crate::workspace::Workspace;

const PAGE: &str = "docs/protocol.md";

#[test]
fn the_table_of_methods_is_that_of_the_code() {
    let workspace = Workspace::read();
    let values = Values::of(&workspace);
    let path = workspace.paths().into_iter().find(|path| path.ends_with("/roles.rs")).expect("a table in roles.rs");
    let mut methods = Methods { values: &values, file: &path, rows: Vec::new() };
    methods.visit_file(&syn::parse_file(&workspace.text(&path)).expect("it is Rust"));
    let text = workspace.text(PAGE);
    let is_row = |line: &&str| line.starts_with("| `") && line.contains('/') && line.matches('|').count() == 5;
    let written: Vec<&str> = text.lines().filter(is_row).collect();
    let mut findings = Vec::new();
    for (at, row) in methods.rows.iter().enumerate() {
        if written.get(at) != Some(&row.as_str()) {
            let line = written.get(at).and_then(|wrong| text.lines().position(|line| line == *wrong));
            let message = format!("the row of a method is {:?}; write {row:?}", written.get(at).unwrap_or(&""));
            findings.push(Finding { file: PAGE.into(), line: line.unwrap_or(0) + 1, key: row.clone(), message });
        }
    }
    assert!(methods.rows.len() > 20, "only {} methods were found in {}", methods.rows.len(), path);
    assert_eq!(written.len(), methods.rows.len(), "rows of methods in {PAGE}, and in {}", path);
    check("docs/protocol.md has every method with its bounds.", findings, &[]);
}

/// Collects `method("/convoy.v1.SERVICE/NAME", Who::.., CALLS, SIZE)` as rows of the page's table.
struct Methods<'v> {
    values: &'v Values,
    file: &'v str,
    rows: Vec<String>,
}

impl<'ast> Visit<'ast> for Methods<'_> {
    fn visit_expr_call(&mut self, call: &'ast ExprCall) {
        let arguments: Vec<&Expr> = call.args.iter().collect();
        if let [Expr::Lit(path), who, calls, size] = arguments[..]
            && let Lit::Str(path) = &path.lit
        {
            let path = path.value();
            let name = path.rsplit('.').next().unwrap_or_default();
            let form = |value: &Expr, at: usize| {
                let value = self.values.evaluate(self.file, value);
                value.and_then(|value| value.forms().into_iter().nth(at)).unwrap_or_default()
            };
            let count = form(calls, 0);
            let count = if count.ends_with("KiB") { form(calls, 1) } else { count };
            self.rows.push(format!("| `{name}` | {} | {count} | {} |", who_in_words(who), form(size, 0)));
        }
        visit::visit_expr_call(self, call);
    }
}

fn who_in_words(who: &Expr) -> &'static str {
    let last = |path: &syn::ExprPath| path.path.segments.last().map(|segment| segment.ident.to_string());
    let name = match who {
        Expr::Path(path) => last(path),
        Expr::Call(roles) => match roles.args.first() {
            Some(Expr::Path(path)) => last(path),
            _ => None,
        },
        _ => None,
    };
    match name.as_deref() {
        Some("Anybody") => "anybody",
        Some("Members") => "every member",
        Some("VIEW") => "viewer, submitter, admin",
        Some("SUBMIT") => "submitter, admin",
        Some("WORK") => "worker",
        Some("MANAGE") => "admin",
        _ => "nobody that this test knows",
    }
}
