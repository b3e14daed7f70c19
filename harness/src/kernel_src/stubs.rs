//! Stubs for IDEs: a `#[test]` function for every case known at build time, in modules as its name has them.
//!
//! rust-analyzer and IntelliJ find tests only as such functions in source. The target is built with `harness = false`,
//! so rustc drops them, and the program runs the cases instead.

use std::collections::BTreeMap;

/// Rust source with a stub for each of `names`.
pub fn render<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let mut source = String::new();
    let mut modules = BTreeMap::<_, Vec<_>>::new();
    for name in names {
        match name.split_once("::") {
            Some((module, rest)) => modules.entry(module).or_default().push(rest),
            None => source += &format!("#[test] fn {name}() {{}}\n"),
        }
    }
    for (module, names) in modules {
        source += &format!("mod {module} {{\n{}}}\n", render(names));
    }
    source
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
