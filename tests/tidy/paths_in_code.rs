//! Every path that the code of a module names, inside macros too.

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemUse, Macro, Path, Visibility};

use crate::module_tree::{Import, imports_of, is_for_tests};

/// What the code of a module names.
#[derive(Default)]
pub(crate) struct Named {
    /// Paths as they are written, with their lines.
    pub(crate) paths: Vec<(Vec<String>, usize)>,
    /// Imports, those inside functions too.
    pub(crate) imports: Vec<Import>,
}

/// What `items` name; code for tests, attributes and visibilities are left out.
pub(crate) fn named_in(items: &[Item]) -> Named {
    let mut named = Named::default();
    items.iter().for_each(|item| named.visit_item(item));
    named
}

impl<'ast> Visit<'ast> for Named {
    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_for_tests(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.imports.extend(imports_of(item));
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.paths.push((names, path.span().start().line));
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        visit::visit_macro(self, call);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

impl Named {
    /// Takes `a::b::c` out of tokens, in which a name after a point is a field or a method.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, character: char| match tokens.get(at) {
            Some(TokenTree::Punct(punct)) => punct.as_char() == character,
            _ => false,
        };
        let mut at = 0;
        while let Some(token) = tokens.get(at) {
            at += 1;
            match token {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(ident) if at < 2 || !is(at - 2, '.') => {
                    let (mut names, line) = (vec![ident.to_string()], ident.span().start().line);
                    while is(at, ':') && is(at + 1, ':') {
                        let Some(TokenTree::Ident(next)) = tokens.get(at + 2) else { break };
                        names.push(next.to_string());
                        at += 3;
                    }
                    self.paths.push((names, line));
                }
                _ => {}
            }
        }
    }
}

/// The attributes of an item of any kind.
pub(crate) fn attributes_of(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

#[test]
fn paths_in_macros_functions_and_types_are_found() {
    let file = syn::parse_file(
        "fn f(x: a::B<c::D>) { use e::F; format!(\"{}\", g::h(i.j::<k::L>())); }
         #[cfg(test)] mod tests { fn t() { m::n() } }
         #[test] fn u() { o::p() }",
    );
    let named = named_in(&file.unwrap().items);
    let mut paths: Vec<String> = named.paths.iter().map(|(path, _)| path.join("::")).collect();
    paths.sort();
    assert_eq!(paths, ["a::B", "c::D", "format", "g::h", "i", "k::L"]);
    assert_eq!(named.imports.len(), 1);
}
