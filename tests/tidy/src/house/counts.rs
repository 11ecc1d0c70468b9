//! Counts within one file: fields that the crate sees, arguments, lengths, `expect`s and assertions.

use proc_macro2::{TokenStream, TokenTree};
use syn::visit::{self, Visit};
use syn::{Signature, Visibility};

use super::parsed::{File, lines_of};

/// A function and what is measured of it.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) line: usize,
    /// From `fn` to its closing brace.
    pub(crate) lines: usize,
    /// `self` included.
    pub(crate) arguments: usize,
}

#[derive(Default)]
pub(crate) struct Counts {
    /// `Type.field`, of structs, visible beyond its module but not beyond the crate.
    pub(crate) crate_visible_fields: Vec<String>,
    pub(crate) functions: Vec<Function>,
    pub(crate) expects: usize,
    /// `assert!`, `assert_eq!` and `assert_ne!` that run; comparisons of constants do not.
    pub(crate) assertions: usize,
}

pub(crate) fn count(file: &File) -> Counts {
    let mut counts = Counts::default();
    counts.visit_file(&file.tree);
    counts
}

impl Counts {
    fn function(&mut self, signature: &Signature, end: usize) {
        let start = lines_of(signature.fn_token.span).0;
        self.functions.push(Function {
            name: signature.ident.to_string(),
            line: start,
            lines: end + 1 - start,
            arguments: signature.inputs.len(),
        });
    }

    /// `.expect(` within the arguments of a macro.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut after_dot = false;
        for token in tokens {
            if let TokenTree::Group(group) = &token {
                self.tokens(group.stream());
            }
            self.expects +=
                usize::from(after_dot && matches!(&token, TokenTree::Ident(name) if name == "expect"));
            after_dot = matches!(&token, TokenTree::Punct(mark) if mark.as_char() == '.');
        }
    }
}

impl<'ast> Visit<'ast> for Counts {
    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        for (at, field) in item.fields.iter().enumerate() {
            if matches!(field.vis, Visibility::Restricted(_)) {
                let name = field.ident.as_ref().map_or_else(|| at.to_string(), ToString::to_string);
                self.crate_visible_fields.push(format!("{}.{name}", item.ident));
            }
        }
        visit::visit_item_struct(self, item);
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.function(&item.sig, lines_of(item.block.brace_token.span.close()).1);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.function(&item.sig, lines_of(item.block.brace_token.span.close()).1);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_trait_item_fn(&mut self, item: &'ast syn::TraitItemFn) {
        let end = item.default.as_ref().map(|block| lines_of(block.brace_token.span.close()).1);
        self.function(&item.sig, end.unwrap_or_else(|| lines_of(item.sig.fn_token.span).1));
        visit::visit_trait_item_fn(self, item);
    }

    fn visit_item_const(&mut self, _: &'ast syn::ItemConst) {
        // Evaluated by the compiler: nothing in it runs.
    }

    fn visit_expr_method_call(&mut self, call: &'ast syn::ExprMethodCall) {
        self.expects += usize::from(call.method == "expect");
        visit::visit_expr_method_call(self, call);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        let asserts = ["assert", "assert_eq", "assert_ne"].iter().any(|name| call.path.is_ident(name));
        self.assertions += usize::from(asserts);
        self.tokens(call.tokens.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(text: &str) -> Counts {
        count(&File::parse("src", "src/a.rs", text))
    }

    #[test]
    fn only_fields_of_the_crate_are_counted() {
        let counts = counted(
            "struct A { pub(crate) b: u8, pub c: u8, d: u8, pub(super) e: u8 } struct F(pub(in crate::a) u8);",
        );
        assert_eq!(counts.crate_visible_fields, ["A.b", "A.e", "F.0"]);
    }

    #[test]
    fn functions_are_measured_from_fn_to_brace() {
        let text = "/// Doc.\n#[must_use]\nfn a(\n    b: u8,\n) {\n}\nimpl T { fn c(&self, d: u8) {} }\ntrait U { fn e(); }";
        let found: Vec<_> =
            counted(text).functions.iter().map(|found| (found.line, found.lines, found.arguments)).collect();
        assert_eq!(found, [(3, 4, 1), (7, 1, 2), (8, 1, 0)]);
    }

    #[test]
    fn expects_are_found_in_code_and_in_macros_but_not_in_text() {
        let text = "fn a() { b.expect(\"c.expect(\"); assert!(d.e().expect(\"f\")); expect(); } // g.expect(";
        assert_eq!(counted(text).expects, 2);
    }

    #[test]
    fn assertions_that_run_are_counted() {
        let text = "const _: () = assert!(A > 1); fn a() { assert!(b); if c { assert_eq!(d, e); } assert_ne!(f, g, \"assert!()\"); \
                    debug_assert!(h); unreachable!(); }";
        assert_eq!(counted(text).assertions, 3);
    }
}
