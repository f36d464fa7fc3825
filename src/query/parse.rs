//! The grammar of predicates: parses text to an [`Expr`].

use crate::arch::column::{BytesSet, Cmp};
use crate::types::limits::{QUERY_DEPTH_MAX, QUERY_LIST_MAX, QUERY_TERMS_MAX};

use super::lexer::{Cursor, Failed};
use super::path::Path;
use super::scalar::Number;

/// A literal in a predicate.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    /// null.
    Null,
    /// true or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A string.
    Text(Box<str>),
}

/// The literals of an `in`, prepared for lookups.
#[derive(Clone, Debug, Default)]
pub(super) struct List {
    /// Whether null is among them.
    pub(super) null: bool,
    /// Whether false is among them.
    pub(super) no: bool,
    /// Whether true is among them.
    pub(super) yes: bool,
    /// The numbers, in ascending order, without duplicates.
    pub(super) numbers: Vec<Number>,
    /// The strings as they were written.
    pub(super) texts: Vec<Box<str>>,
    /// The strings, prepared for lookups.
    pub(super) set: BytesSet,
}

impl List {
    fn new(literals: Vec<Literal>) -> List {
        let mut list = List::default();
        for literal in literals {
            match literal {
                Literal::Null => list.null = true,
                Literal::Bool(false) => list.no = true,
                Literal::Bool(true) => list.yes = true,
                Literal::Number(number) => list.numbers.push(number),
                Literal::Text(text) => list.texts.push(text),
            }
        }
        list.numbers.sort();
        list.numbers.dedup();
        list.set = BytesSet::new(list.texts.iter().map(|text| text.as_bytes()));
        list
    }
}

/// A predicate over paths of type `P`: [`Path`] after parsing, the number of a column in a plan.
#[derive(Clone, Debug)]
pub(super) enum Expr<P> {
    /// All of these hold.
    And(Vec<Expr<P>>),
    /// Any of these holds.
    Or(Vec<Expr<P>>),
    /// This does not hold.
    Not(Box<Expr<P>>),
    /// The path exists.
    Exists(P),
    /// A comparison. Numbers and strings have all operators, booleans two, null one.
    Compare(P, Cmp, Literal),
    /// Equal to one of these.
    In(P, List),
    /// A string with this prefix.
    Prefix(P, Box<str>),
}

impl<P> Expr<P> {
    /// Returns the same predicate over other paths.
    pub(super) fn map<Q>(self, path: &mut impl FnMut(P) -> Q) -> Expr<Q> {
        match self {
            Expr::And(all) => Expr::And(all.into_iter().map(|part| part.map(path)).collect()),
            Expr::Or(any) => Expr::Or(any.into_iter().map(|part| part.map(path)).collect()),
            Expr::Not(part) => Expr::Not(Box::new(part.map(path))),
            Expr::Exists(p) => Expr::Exists(path(p)),
            Expr::Compare(p, cmp, literal) => Expr::Compare(path(p), cmp, literal),
            Expr::In(p, list) => Expr::In(path(p), list),
            Expr::Prefix(p, text) => Expr::Prefix(path(p), text),
        }
    }
}

/// Parses a predicate.
///
/// # Errors
/// Returns what is wrong, with its position.
pub(super) fn predicate(text: &str) -> Result<Expr<Path>, String> {
    let mut parser = Parser { cursor: Cursor::new(text), depth: 0, terms: 0 };
    let expr = parser.or().and_then(|expr| parser.cursor.end().map(|()| expr));
    expr.map_err(|failed| failed.show("where", text))
}

struct Parser<'a> {
    cursor: Cursor<'a>,
    depth: usize,
    terms: usize,
}

impl Parser<'_> {
    fn or(&mut self) -> Result<Expr<Path>, Failed> {
        let mut parts = vec![self.and()?];
        while self.cursor.keyword("or") {
            parts.push(self.and()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::Or(parts) })
    }

    fn and(&mut self) -> Result<Expr<Path>, Failed> {
        let mut parts = vec![self.not()?];
        while self.cursor.keyword("and") {
            parts.push(self.not()?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Expr::And(parts) })
    }

    fn not(&mut self) -> Result<Expr<Path>, Failed> {
        self.cursor.space();
        let begin = self.cursor.at;
        self.depth += 1;
        if self.depth > QUERY_DEPTH_MAX {
            let why = format!("`not`s and parentheses are nested more than {QUERY_DEPTH_MAX} deep");
            return Err(Failed::new(begin, why));
        }
        let expr = if self.cursor.keyword("not") {
            Expr::Not(Box::new(self.not()?))
        } else if self.cursor.take("(") {
            let expr = self.or()?;
            self.cursor.space();
            if !self.cursor.take(")") {
                return Err(self.cursor.expected("`)`, `and` or `or`"));
            }
            expr
        } else {
            self.term()?
        };
        self.depth -= 1;
        Ok(expr)
    }

    fn term(&mut self) -> Result<Expr<Path>, Failed> {
        self.terms += 1;
        if self.terms > QUERY_TERMS_MAX {
            return Err(Failed::new(self.cursor.at, format!("more than {QUERY_TERMS_MAX} comparisons")));
        }
        if self.cursor.keyword("exists") {
            self.cursor.space();
            let open = self.cursor.take("(");
            let path = Path::read(&mut self.cursor)?;
            self.cursor.space();
            if open && !self.cursor.take(")") {
                return Err(self.cursor.expected("`)`"));
            }
            return Ok(Expr::Exists(path));
        }
        if self.cursor.peek() != Some('$') {
            return Err(self.cursor.expected("a path (`$.name`), `exists`, `not` or `(`"));
        }
        let path = Path::read(&mut self.cursor)?;
        if self.cursor.keyword("in") {
            return Ok(Expr::In(path, self.list()?));
        }
        if self.cursor.keyword("prefix") {
            self.cursor.space();
            return Ok(Expr::Prefix(path, self.cursor.text()?.into()));
        }
        self.cursor.space();
        let at = self.cursor.at;
        // Longer operators come first.
        let operators = [
            ("<=", Cmp::Le),
            (">=", Cmp::Ge),
            ("!=", Cmp::Ne),
            ("==", Cmp::Eq),
            ("=", Cmp::Eq),
            ("<", Cmp::Lt),
            (">", Cmp::Gt),
        ];
        let Some((name, cmp)) = operators.into_iter().find(|(name, _)| self.cursor.take(name)) else {
            return Err(self.cursor.expected("`=`, `!=`, `<`, `<=`, `>`, `>=`, `in` or `prefix`"));
        };
        let literal = self.literal()?;
        let wrong = match (&literal, cmp) {
            (Literal::Null, Cmp::Ne) => "`!= null` would never hold: write `exists $.a and not $.a = null`",
            (Literal::Null, cmp) if cmp != Cmp::Eq => "null has no order: it is only equal to null",
            (Literal::Bool(_), cmp) if !matches!(cmp, Cmp::Eq | Cmp::Ne) => "booleans have no order: use `=` or `!=`",
            _ => return Ok(Expr::Compare(path, cmp, literal)),
        };
        Err(Failed::new(at, format!("`{name}`: {wrong}")))
    }

    fn list(&mut self) -> Result<List, Failed> {
        self.cursor.space();
        if !self.cursor.take("[") {
            return Err(self.cursor.expected("`[`"));
        }
        let mut literals = Vec::new();
        loop {
            self.cursor.space();
            if literals.is_empty() && self.cursor.take("]") {
                return Ok(List::default());
            }
            if literals.len() == QUERY_LIST_MAX {
                return Err(Failed::new(self.cursor.at, format!("more than {QUERY_LIST_MAX} values in one list")));
            }
            literals.push(self.literal()?);
            self.cursor.space();
            if self.cursor.take("]") {
                return Ok(List::new(literals));
            }
            if !self.cursor.take(",") {
                return Err(self.cursor.expected("`,` or `]`"));
            }
        }
    }

    fn literal(&mut self) -> Result<Literal, Failed> {
        self.cursor.space();
        let begin = self.cursor.at;
        match self.cursor.peek() {
            Some('"' | '\'') => return Ok(Literal::Text(self.cursor.text()?.into())),
            Some(c) if c == '-' || c.is_ascii_digit() => return self.number().map(Literal::Number),
            _ => {}
        }
        for (word, literal) in [("null", Literal::Null), ("true", Literal::Bool(true)), ("false", Literal::Bool(false))]
        {
            if self.cursor.keyword(word) {
                return Ok(literal);
            }
        }
        self.cursor.at = begin;
        Err(self.cursor.expected("a number, a string in quotes, true, false or null"))
    }

    fn number(&mut self) -> Result<Number, Failed> {
        let begin = self.cursor.at;
        let word = self.cursor.word(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.'));
        let spelled = number_is_json(word.as_bytes());
        let why = match spelled.then(|| Number::parse(word)) {
            Some(Some(number)) => return Ok(number),
            Some(None) => "the number does not fit in an f64",
            None => "not a JSON number",
        };
        Err(Failed::new(begin, why))
    }
}

/// Returns whether `text` is a number in JSON's grammar.
fn number_is_json(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|b| b.is_ascii_digit()).count();
    let rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    let mut rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let len = digits(fraction);
        if len == 0 {
            return false;
        }
        rest = &fraction[len..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"-").or(exponent.strip_prefix(b"+")).unwrap_or(exponent);
        let len = digits(exponent);
        if len == 0 {
            return false;
        }
        rest = &exponent[len..];
    }
    rest.is_empty()
}
