//! No function over 60 lines, no struct over 12 fields without a reason.
//!
//! A function's lines are those from its signature to its closing brace. Lines inside a string that spans several lines
//! do not count: they are data, as the scripts and expected texts of tests are. A struct may have more fields where its
//! documentation has a sentence that begins with `Many fields:`. Structs of command line flags (`derive(Args)` or
//! `derive(Parser)`) have as many fields as the command has flags.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, ItemFn, ItemStruct, Lit, LitStr, Macro, Signature, TraitItemFn};

use crate::exceptions;
use crate::report::{Finding, check};
use crate::workspace::Workspace;

const LONGEST_FUNCTION: usize = 60;
const MOST_FIELDS: usize = 12;

#[test]
fn no_function_over_60_lines_and_no_struct_over_12_fields_without_a_reason() {
    let workspace = Workspace::read();
    let mut sizes = Sizes::default();
    for (package, target) in workspace.targets() {
        let tree = workspace.tree(target);
        for module in &tree.modules {
            sizes.file.clone_from(&tree.files[module.file].path);
            sizes.folder.clone_from(&package.folder);
            module.items.iter().for_each(|item| sizes.visit_item(item));
        }
    }
    let over = |list: Vec<(Finding, usize)>, most: usize| {
        list.into_iter().filter(|(_, size)| *size > most).map(|(finding, _)| finding).collect()
    };
    let mut large: Vec<Finding> = over(sizes.functions, LONGEST_FUNCTION);
    large.extend::<Vec<Finding>>(over(sizes.structs, MOST_FIELDS));
    check("A function fits on a screen, a struct is one thing.", large, exceptions::SIZES);
}

/// Measures functions and structs: each with its size.
#[derive(Default)]
struct Sizes {
    folder: String,
    file: String,
    functions: Vec<(Finding, usize)>,
    structs: Vec<(Finding, usize)>,
}

impl Sizes {
    fn function(&mut self, signature: &Signature, body: &Block) {
        let (first, last) = (signature.span().start().line, body.span().end().line);
        let mut strings = LongStrings(0);
        strings.visit_block(body);
        let lines = last + 1 - first - strings.0;
        self.functions.push((
            Finding {
                file: self.file.clone(),
                line: first,
                key: format!("{}: {}", self.folder, signature.ident),
                message: format!("{} has {lines} lines, {LONGEST_FUNCTION} at most; cut it in steps", signature.ident),
            },
            lines,
        ));
    }
}

impl<'ast> Visit<'ast> for Sizes {
    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(body) = &item.default {
            self.function(&item.sig, body);
        }
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast ItemStruct) {
        let has_reason = documentation(&item.attrs).contains("Many fields: ");
        let is_flags = derives(&item.attrs, &["Args", "Parser"]);
        if !has_reason && !is_flags {
            let fields = item.fields.len();
            self.structs.push((
                Finding {
                    file: self.file.clone(),
                    line: item.ident.span().start().line,
                    key: format!("{}: {}", self.folder, item.ident),
                    message: format!(
                        "{} has {fields} fields, {MOST_FIELDS} at most; group them, or say why in a sentence of its \
                         documentation that begins with `Many fields: `",
                        item.ident
                    ),
                },
                fields,
            ));
        }
        visit::visit_item_struct(self, item);
    }
}

/// Counts the lines that strings of several lines take beyond their first.
struct LongStrings(usize);

impl<'ast> Visit<'ast> for LongStrings {
    fn visit_lit_str(&mut self, string: &'ast LitStr) {
        self.0 += string.span().end().line - string.span().start().line;
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.tokens(call.tokens.clone());
    }
}

impl LongStrings {
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Group(group) => self.tokens(group.stream()),
                proc_macro2::TokenTree::Literal(literal) => {
                    self.0 += literal.span().end().line - literal.span().start().line;
                }
                _ => {}
            }
        }
    }
}

/// The text of the doc comments among attributes, lines joined by spaces.
pub(crate) fn documentation(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
        let syn::Expr::Lit(value) = &pair.value else { return None };
        let Lit::Str(text) = &value.lit else { return None };
        pair.path.is_ident("doc").then(|| text.value().trim().to_owned())
    });
    lines.collect::<Vec<String>>().join(" ")
}

/// Whether one of `names` is derived.
pub(crate) fn derives(attributes: &[Attribute], names: &[&str]) -> bool {
    attributes.iter().any(|attribute| {
        let syn::Meta::List(list) = &attribute.meta else { return false };
        let mut words = list.tokens.clone().into_iter();
        list.path.is_ident("derive") && words.any(|word| names.contains(&word.to_string().as_str()))
    })
}

#[test]
fn lines_of_data_do_not_count_and_reasons_excuse() {
    let text = "
        fn f() {
            check(\"a
                b\", expect![[\"
                c\"]]);
        }
        /// Plain. Many fields: they are one table.
        struct Excused { a: u8 }
        #[derive(Debug, clap::Args)]
        struct Flags { a: u8 }
        struct Plain(u8, u8);";
    let mut sizes = Sizes::default();
    sizes.visit_file(&syn::parse_file(text).expect("it is Rust"));
    let found =
        |list: &[(Finding, usize)]| list.iter().map(|(finding, size)| (finding.line, *size)).collect::<Vec<_>>();
    assert_eq!((found(&sizes.functions), found(&sizes.structs)), (vec![(2, 3)], vec![(11, 2)]));
}
