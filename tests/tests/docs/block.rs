//! The blocks of code of a page.

use std::fmt;

/// What stands between two fences.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) page: String,
    /// Where its first fence is.
    pub(crate) line: usize,
    /// Empty if the page does not say.
    pub(crate) language: String,
    pub(crate) text: String,
}

impl Block {
    /// All blocks of a page, in order.
    pub(crate) fn all_of(page: &str, markdown: &str) -> Vec<Self> {
        let mut blocks: Vec<Self> = Vec::new();
        let mut open: Option<(usize, &str)> = None;
        for (number, line) in markdown.lines().enumerate() {
            let bare = line.trim_start();
            let indent = line.len() - bare.len();
            match (open, bare.strip_prefix("```")) {
                (None, Some(language)) => {
                    open = Some((indent, language));
                    blocks.push(Self {
                        page: page.to_owned(),
                        line: number + 1,
                        language: language.trim().to_owned(),
                        text: String::new(),
                    });
                }
                (Some(_), Some("")) => open = None,
                (Some((indent, _)), _) => {
                    if let Some(block) = blocks.last_mut() {
                        let spaces = line.len() - bare.len();
                        block
                            .text
                            .push_str(line.get(indent.min(spaces)..).unwrap_or_default());
                        block.text.push('\n');
                    }
                }
                (None, None) => {}
            }
        }
        blocks
    }

    /// Whether a reader is to run it.
    pub(crate) fn is_program(&self) -> bool {
        matches!(
            self.language.as_str(),
            "sh" | "python" | "js" | "ts" | "html" | "ruby" | "php" | "go" | "c" | "toml"
        )
    }

    /// Whether it may be what the program before it prints.
    pub(crate) fn may_be_output(&self) -> bool {
        matches!(self.language.as_str(), "" | "json")
    }
}

impl fmt::Display for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.page, self.line)
    }
}

#[test]
fn blocks_are_found_with_their_lines_and_without_their_indentation() {
    let markdown = "text\n\n```sh\nls\n  -l\n```\n\n1. item\n\n   ```\n   out\n\n   ```\nend\n";
    let blocks = Block::all_of("a.md", markdown);
    let seen: Vec<_> = blocks
        .iter()
        .map(|block| (block.line, block.language.as_str(), block.text.as_str()))
        .collect();
    assert_eq!(seen, [(3, "sh", "ls\n  -l\n"), (10, "", "out\n\n")]);
    assert_eq!(blocks[0].to_string(), "a.md:3");
}
