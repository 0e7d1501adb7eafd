//! Locks are parking_lot's; tests wait for no time and compare no time; no test ends early in silence.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ExprAsync, ExprClosure, ExprReturn, ItemFn, Local, Macro, Pat, Path};

use crate::exceptions;
use crate::module_tree::is_for_tests;
use crate::report::{Finding, check};
use crate::workspace::{Workspace, flat, line_of};

#[test]
fn no_lock_can_be_poisoned() {
    let workspace = Workspace::read();
    let findings = workspace.first_lines_of("PoisonError").map(|(file, line)| Finding {
        key: file.rsplit('/').next().unwrap_or_default().to_owned(),
        file,
        line,
        message: "a poisoned lock is handled; use parking_lot's Mutex, which cannot be poisoned".into(),
    });
    check("Locks cannot be poisoned.", findings.collect(), exceptions::POISON);
}

#[test]
fn tests_neither_sleep_nor_compare_time_nor_return_early() {
    let workspace = Workspace::read();
    let mut findings = Vec::new();
    for (package, target) in workspace.targets() {
        let tree = workspace.tree(target);
        for module in &tree.modules {
            let mut tests = Tests { found: Vec::new() };
            module.items.iter().for_each(|item| tests.visit_item(item));
            let file = &tree.files[module.file].path;
            for test in tests.found {
                let key = format!("{}: {}", package.folder, test.name);
                findings.extend(test.faults(target.is_product).into_iter().map(|(line, message)| Finding {
                    file: file.clone(),
                    line,
                    key: key.clone(),
                    message: message.into(),
                }));
            }
        }
    }
    check("Tests give the same answer on every machine, and none is silent.", findings, exceptions::TESTS);
}

/// A test function, and the lines of what it should not do.
struct TestFunction {
    name: String,
    sleep: Option<usize>,
    compares_time: Option<usize>,
    returns: Option<usize>,
}

impl TestFunction {
    /// Lines and messages. Tests of processes may sleep between two looks; unit tests may not.
    fn faults(&self, is_unit_test: bool) -> Vec<(usize, &'static str)> {
        let faults = [
            (self.sleep.filter(|_| is_unit_test), "a unit test sleeps; wait for a state, or pause tokio's clock"),
            (self.compares_time, "the outcome depends on the wall clock; pause tokio's clock"),
            (self.returns, "a test returns early, as if it had passed; use `#[ignore = \"needs ...\"]`"),
        ];
        faults.into_iter().filter_map(|(line, message)| Some((line?, message))).collect()
    }
}

/// Collects test functions.
struct Tests {
    found: Vec<TestFunction>,
}

impl<'ast> Visit<'ast> for Tests {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if is_for_tests(&function.attrs) {
            let mut body = Body { is_paused: is_paused(&function.attrs), ..Body::default() };
            body.visit_block(&function.block);
            if body.is_paused {
                body.compares_time = None;
            }
            let Body { sleep, compares_time, returns, .. } = body;
            self.found.push(TestFunction { name: function.sig.ident.to_string(), sleep, compares_time, returns });
        }
    }
}

/// Whether the test runs under tokio's paused clock.
fn is_paused(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => line_of("start_paused", &flat(list.tokens.clone())).is_some(),
        _ => false,
    })
}

/// What the body of a test does.
#[derive(Default)]
struct Body {
    /// Under tokio's paused clock, times are those of the test.
    is_paused: bool,
    /// Variables that hold a time that has passed.
    times: Vec<String>,
    sleep: Option<usize>,
    compares_time: Option<usize>,
    returns: Option<usize>,
}

impl<'ast> Visit<'ast> for Body {
    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if names.ends_with(&["thread".into(), "sleep".into()]) {
            self.sleep.get_or_insert(path.span().start().line);
        }
        self.is_paused |= names.ends_with(&["time".into(), "pause".into()]);
        visit::visit_path(self, path);
    }

    fn visit_local(&mut self, local: &'ast Local) {
        visit::visit_local(self, local);
        let Some(value) = &local.init else { return };
        let mut calls = Elapsed(false);
        calls.visit_expr(&value.expr);
        if let (Pat::Ident(name), true) = (&local.pat, calls.0) {
            self.times.push(name.ident.to_string());
        }
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        let name = call.path.segments.last().map(|segment| segment.ident.to_string());
        if name.is_some_and(|name| name.starts_with("assert")) {
            let names = ["elapsed"].into_iter().chain(self.times.iter().map(String::as_str));
            let tokens = flat(call.tokens.clone());
            let line = names.filter_map(|name| line_of(name, &tokens)).min();
            self.compares_time = self.compares_time.or(line);
        }
    }

    fn visit_expr_return(&mut self, end: &'ast ExprReturn) {
        self.returns.get_or_insert(end.span().start().line);
    }

    fn visit_expr_closure(&mut self, closure: &'ast ExprClosure) {
        let returns = self.returns;
        visit::visit_expr_closure(self, closure);
        self.returns = returns;
    }

    fn visit_expr_async(&mut self, block: &'ast ExprAsync) {
        let returns = self.returns;
        visit::visit_expr_async(self, block);
        self.returns = returns;
    }

    fn visit_item_fn(&mut self, _: &'ast ItemFn) {}
}

/// Whether `elapsed` is called.
struct Elapsed(bool);

impl<'ast> Visit<'ast> for Elapsed {
    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.0 |= call.method == "elapsed";
        visit::visit_expr_method_call(self, call);
    }
}

#[test]
fn what_tests_should_not_do_is_found() {
    let text = "
        #[test] fn sleeps() { std::thread::sleep(TIME) }
        #[test] fn measures() { let took = start.elapsed(); assert!(took < LIMIT, \"{took:?}\") }
        #[tokio::test(start_paused = true)] async fn paused() { assert!(start.elapsed() == LIMIT) }
        #[test] fn returns() { if none { return; } }
        #[test] fn closes() { let f = || { return 1; }; }
        fn helper() { thread::sleep(TIME) }";
    let mut tests = Tests { found: Vec::new() };
    tests.visit_file(&syn::parse_file(text).expect("it is Rust"));
    let found: Vec<String> = tests
        .found
        .iter()
        .map(|test| format!("{}: {:?} {:?} {:?}", test.name, test.sleep, test.compares_time, test.returns))
        .collect();
    let expected = [
        "sleeps: Some(2) None None",
        "measures: None Some(3) None",
        "paused: None None None",
        "returns: None None Some(5)",
        "closes: None None None",
    ];
    assert_eq!(found, expected);
}
