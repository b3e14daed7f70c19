//! Stubs for IDEs: a `#[test]` function for every case known at build time, in modules as its name has them.
//!
//! rust-analyzer and IntelliJ find tests only as such functions in source. The target is built with `harness = false`,
//! so rustc drops them, and the program runs the cases instead.

use std::collections::BTreeMap;
use std::fmt::Write;

#[derive(Debug, Default)]
struct Module<'a> {
    modules: BTreeMap<&'a str, Self>,
    functions: Vec<&'a str>,
}

/// Rust source with a stub for each of `names`.
pub fn render<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut root = Module::default();
    for name in names {
        let (path, function) = name.rsplit_once("::").unwrap_or(("", name));
        let segments = path.split("::").filter(|segment| !segment.is_empty());
        segments
            .fold(&mut root, |module, segment| {
                module.modules.entry(segment).or_default()
            })
            .functions
            .push(function);
    }
    let mut source = String::new();
    root.render(&mut source);
    source
}

impl Module<'_> {
    fn render(&self, source: &mut String) {
        for function in &self.functions {
            writeln!(source, "#[test] fn {function}() {{}}").expect("write to a string");
        }
        for (name, module) in &self.modules {
            writeln!(source, "mod {name} {{").expect("write to a string");
            module.render(source);
            source.push_str("}\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_modules_and_functions() {
        let source = render(["b::default", "a::x", "a::x::y_1", "a::z"]);
        let lines: Vec<_> = source.lines().collect();
        let expected = [
            "mod a {",
            "#[test] fn x() {}",
            "#[test] fn z() {}",
            "mod x {",
            "#[test] fn y_1() {}",
            "}",
            "}",
            "mod b {",
            "#[test] fn default() {}",
            "}",
        ];
        assert_eq!(lines, expected);
    }
}
