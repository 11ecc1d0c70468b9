//! Paths that a file imports, and names that it defines.

use syn::visit::Visit;
use syn::{Item, UseTree};

/// Names from a crate's root, or as they are written.
pub(crate) type Path = Vec<String>;

/// Every path that `file` imports.
pub(crate) fn imported(file: &syn::File) -> Vec<Path> {
    let mut uses = Uses::default();
    uses.visit_file(file);
    uses.found.into_iter().map(|import| import.path).collect()
}

/// A leaf of a `use`: the path and the name it is known by here; a glob has no name.
pub(crate) struct Import {
    pub(crate) path: Path,
    pub(crate) name: Option<String>,
}

/// Every `use` of a module, those within functions included, those of inline modules not.
#[derive(Default)]
pub(crate) struct Uses {
    pub(crate) found: Vec<Import>,
}

impl<'ast> Visit<'ast> for Uses {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.found.extend(imports(&item.tree));
    }

    fn visit_item_mod(&mut self, _: &'ast syn::ItemMod) {}
}

pub(crate) fn imports(tree: &UseTree) -> Vec<Import> {
    let mut found = Vec::new();
    flatten(tree, &mut Vec::new(), &mut found);
    found
}

fn flatten(tree: &UseTree, above: &mut Path, found: &mut Vec<Import>) {
    match tree {
        UseTree::Path(step) => {
            above.push(step.ident.to_string());
            flatten(&step.tree, above, found);
            above.pop();
        }
        UseTree::Name(leaf) if leaf.ident == "self" => {
            found.push(Import { path: above.clone(), name: above.last().cloned() });
        }
        UseTree::Name(leaf) => {
            let name = leaf.ident.to_string();
            found.push(Import { path: child(above, &name), name: Some(name) });
        }
        UseTree::Rename(leaf) => {
            let path =
                if leaf.ident == "self" { above.clone() } else { child(above, &leaf.ident.to_string()) };
            found.push(Import { path, name: Some(leaf.rename.to_string()) });
        }
        UseTree::Glob(_) => found.push(Import { path: above.clone(), name: None }),
        UseTree::Group(group) => {
            for tree in &group.items {
                flatten(tree, above, found);
            }
        }
    }
}

pub(crate) fn child(module: &[String], name: &str) -> Path {
    module.iter().cloned().chain([name.to_owned()]).collect()
}

/// The name of an item that has one.
pub(crate) fn name(item: &Item) -> Option<String> {
    Some(match item {
        Item::Const(item) => item.ident.to_string(),
        Item::Enum(item) => item.ident.to_string(),
        Item::Fn(item) => item.sig.ident.to_string(),
        Item::Macro(item) => item.ident.as_ref()?.to_string(),
        Item::Static(item) => item.ident.to_string(),
        Item::Struct(item) => item.ident.to_string(),
        Item::Trait(item) => item.ident.to_string(),
        Item::Type(item) => item.ident.to_string(),
        Item::Union(item) => item.ident.to_string(),
        _ => return None,
    })
}
