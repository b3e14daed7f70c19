//! Values of parameters: what their types take, and when two spellings are the same.

/// What a module's parameter takes, by the type that modinfo shows (`include/linux/moduleparam.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `Y` or `N`.
    Bool,
    /// A whole number from the first to the second.
    Number(i128, i128),
    /// Anything.
    Text,
}

impl Kind {
    /// The one of a type's name, such as `bool` or `uint`.
    pub fn of_type(name: &str) -> Self {
        match name {
            "bool" | "bint" | "invbool" => Self::Bool,
            "byte" => Self::Number(0, u8::MAX.into()),
            "short" => Self::Number(i16::MIN.into(), i16::MAX.into()),
            "ushort" => Self::Number(0, u16::MAX.into()),
            "int" => Self::Number(i32::MIN.into(), i32::MAX.into()),
            "uint" | "hexint" => Self::Number(0, u32::MAX.into()),
            "long" => Self::Number(i64::MIN.into(), i64::MAX.into()),
            "ulong" | "ullong" => Self::Number(0, u64::MAX.into()),
            _ => Self::Text,
        }
    }

    /// The one that a value looks like, for a kernel whose modinfo tells none.
    pub fn of_value(value: &str) -> Self {
        match value {
            "Y" | "N" => Self::Bool,
            _ if number(value).is_some() => Self::Number(i64::MIN.into(), u64::MAX.into()),
            _ => Self::Text,
        }
    }

    /// Whether the kernel would take this value (`param_set_bool` and its like in `kernel/params.c`).
    pub fn takes(self, value: &str) -> bool {
        match self {
            Self::Bool => switch(value).is_some(),
            Self::Number(least, most) => {
                number(value).is_some_and(|number| (least..=most).contains(&number))
            }
            Self::Text => true,
        }
    }

    /// What it takes, in words that follow "takes".
    pub fn describe(self) -> String {
        match self {
            Self::Bool => "Y or N".to_owned(),
            Self::Number(least, most) => format!("a whole number from {least} to {most}"),
            Self::Text => "a text".to_owned(),
        }
    }

    /// How it spells on and off.
    pub fn spell(self, on: bool) -> &'static str {
        match (self, on) {
            (Self::Number(..), true) => "1",
            (Self::Number(..), false) => "0",
            (_, true) => "Y",
            (_, false) => "N",
        }
    }

    /// Whether two spellings are the same value.
    pub fn same(self, a: &str, b: &str) -> bool {
        a == b
            || match self {
                Self::Bool => switch(a).is_some() && switch(a) == switch(b),
                Self::Number(..) => number(a).is_some() && number(a) == number(b),
                Self::Text => false,
            }
    }
}

/// On or off, in the spellings that the kernel takes (`kstrtobool` in `lib/kstrtox.c`).
pub fn switch(value: &str) -> Option<bool> {
    match value {
        "Y" | "y" | "1" | "on" | "On" | "ON" => Some(true),
        "N" | "n" | "0" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// A whole number, decimal, octal or hexadecimal as in C (`kstrtoint` with base 0).
fn number(value: &str) -> Option<i128> {
    let (negative, digits) = match value.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, value),
    };
    let (radix, digits) = match digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        Some(digits) => (16, digits),
        None if digits.len() > 1 && digits.starts_with('0') => (8, &digits[1..]),
        None => (10, digits),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    let number = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -number } else { number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_takes_what_the_kernel_takes() {
        let uint = Kind::of_type("uint");
        let takes = |kind: Kind, values: &[&str]| {
            values
                .iter()
                .map(|value| kind.takes(value))
                .collect::<Vec<_>>()
        };
        assert_eq!(
            takes(Kind::Bool, &["Y", "0", "off", "2", ""]),
            [true, true, true, false, false]
        );
        assert_eq!(
            takes(uint, &["0x10", "017", "0", "-1", "4294967296", "Y"]),
            [true, true, true, false, false, false]
        );
        assert_eq!(
            takes(Kind::of_type("int"), &["-1", "--1", "-+1", ""]),
            [true, false, false, false]
        );
    }

    #[test]
    fn spellings_of_one_value_are_the_same() {
        assert!(
            Kind::Bool.same("1", "Y") && !Kind::Bool.same("1", "N") && !Kind::Bool.same("x", "z")
        );
        assert!(Kind::of_type("int").same("0x10", "16") && !Kind::of_type("int").same("a", "b"));
        assert_eq!(
            (
                Kind::of_value("Y").spell(false),
                Kind::of_value("1").spell(false)
            ),
            ("N", "0")
        );
    }
}
