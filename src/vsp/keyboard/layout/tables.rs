//! The layouts: what each key types alone, with Shift, and with AltGr.
//!
//! A layout has the four rows of keys that type characters, from left to right ([`CODES`]). A key is a word of up to three
//! characters. [`NONE`] is no character, and [`DEAD`] precedes the accent of a dead key. The third level is that of XKB's layouts,
//! which Linux uses; Windows has fewer characters there.

use super::Layout;

/// A level without a character.
pub(super) const NONE: char = '□';
/// The mark of a dead key.
pub(super) const DEAD: char = '◌';

/// The scan codes of the keys in each row: the first is left of `1`, and the last row begins with the key that a US keyboard lacks.
pub(super) const CODES: [&[u8]; 4] = [
    &[0x29, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08, 0x09, 0x0a, 0x0b, 0x0c, 0x0d],
    &[0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1a, 0x1b],
    &[0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x2b],
    &[0x56, 0x2c, 0x2d, 0x2e, 0x2f, 0x30, 0x31, 0x32, 0x33, 0x34, 0x35],
];

/// All layouts. The first is the default.
pub(super) const LAYOUTS: &[Layout] = &[
    Layout {
        name: "us",
        rows: [
            r"`~ 1! 2@ 3# 4$ 5% 6^ 7& 8* 9( 0) -_ =+",
            r"qQ wW eE rR tT yY uU iI oO pP [{ ]}",
            r#"aA sS dD fF gG hH jJ kK lL ;: '" \|"#,
            r"□ zZ xX cC vV bB nN mM ,< .> /?",
        ],
    },
    Layout {
        name: "be",
        rows: [
            r#"²³¬ &1| é2@ "3# '4¼ (5½ §6^ è7{ !8[ ç9{ à0} )°\ -_◌¸"#,
            r"aA@ zZſ eE€ rR¶ tTŧ yY← uU↓ iI→ oOœ pPþ ◌^◌¨[ $*]",
            r"qQæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł mM◌´ ù%◌´ µ£◌`",
            r"<>\ wW« xX» cC¢ vV„ bB“ nN” ,?◌¸ ;.• :/· =+◌~",
        ],
    },
    Layout {
        name: "ch",
        rows: [
            r#"§°¬ 1+| 2"@ 3*# 4ç¼ 5%½ 6&¬ 7/| 8(¢ 9)] 0=} '?◌´ ◌^◌`◌~"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ zZ← uU↓ iI→ oOœ pPþ üè[ ◌¨!]",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł öé◌´ äà{ $£}",
            r"<>\ yY« xX» cC¢ vV„ bB“ nN” mMµ ,;• .:· -_",
        ],
    },
    Layout {
        name: "cz",
        rows: [
            r";◌°` +1! ě2@ š3# č4$ ř5% ž6^ ý7& á8* í9{ é0} =%\ ◌´◌ˇ◌¯",
            r"qQ\ wW| eE€ rR¶ tTŧ zZ← uU↓ iI→ oOø pPþ ú/[ )(]",
            r#"aA~ sSđ dDĐ fF[ gG] hH` jJ' kKł lLŁ ů"$ §!' ◌¨'\"#,
            r"\|/ yY° xX# cC& vV@ bB{ nN} mM^ ,?< .:> -_*",
        ],
    },
    Layout {
        name: "de",
        rows: [
            r#"◌^°′ 1!¹ 2"² 3§³ 4$¼ 5%½ 6&¬ 7/{ 8([ 9)] 0=} ß?\ ◌´◌`◌¸"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ zZ← uU↓ iI→ oOø pPþ üÜ◌¨ +*~",
            r"aAæ sSſ dDð fFđ gGŋ hHħ jJ kKĸ lLł öÖ◌˝ äÄ◌^ #'’",
            r"<>| yY» xX« cC¢ vV„ bB“ nN” mMµ ,;· .:… -_–",
        ],
    },
    Layout {
        name: "dk",
        rows: [
            r#"½§¾ 1!¡ 2"@ 3#£ 4¤$ 5%½ 6&¥ 7/{ 8([ 9)] 0=} +?± ◌´◌`|"#,
            r"qQ@ wWſ eE€ rR® tTþ yY← uU↓ iI→ oOœ pPþ åÅ◌¨ ◌¨◌^◌~",
            r"aAª sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł æÆ◌´ øØ◌^ '*◌˝",
            r"<>\ zZ« xX» cC© vV„ bB“ nN” mMµ ,;◌¸ .:· -_",
        ],
    },
    Layout {
        name: "es",
        rows: [
            r#"ºª\ 1!| 2"@ 3·# 4$~ 5%½ 6&¬ 7/{ 8([ 9)] 0=} '?\ ¡¿◌¸"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ yY← uU↓ iI→ oOø pPþ ◌`◌^[ +*]",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł ñÑ◌~ ◌´◌¨{ çÇ}",
            r"<>| zZ« xX» cC¢ vV„ bB“ nN” mMµ ,;• .:· -_",
        ],
    },
    Layout {
        name: "fi",
        rows: [
            r#"§½ 1! 2"@ 3#£ 4¤$ 5%‰ 6&‚ 7/{ 8([ 9)] 0=} +?\ ◌´◌`◌¸"#,
            r"qQ wW eE€ rR tTþ yY uU iIı oOœ pP åÅ◌˝ ◌¨◌^◌~",
            r"aAə sSß dDð fF gG hH jJ kKĸ lL öÖø äÄæ '*◌ˇ",
            r"<>| zZʒ xX× cC vV bB nNŋ mMµ ,;’ .: -_–",
        ],
    },
    Layout {
        name: "fr",
        rows: [
            r#"²~¬ &1¹ é2~ "3# '4{ (5[ -6| è7` _8\ ç9^ à0@ )°] =+}"#,
            r"aAæ zZ« eE€ rR¶ tTŧ yY← uU↓ iI→ oOø pPþ ◌^◌¨ $£¤",
            r"qQ@ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł mMµ ù%◌^ *µ◌`",
            r"<>| wWł xX» cC¢ vV„ bB“ nN” ,?◌´ ;.• :/· !§",
        ],
    },
    Layout {
        name: "hu",
        rows: [
            r#"0§¬ 1'~ 2"◌ˇ 3+^ 4!◌˘ 5%◌° 6/◌˛ 7=` 8(◌˙ 9)◌´ öÖ◌˝ üÜ◌¨ óÓ◌¸"#,
            r"qQ\ wW| eEÄ rR¶ tTŧ zZ– uU€ iIÍ oO„ pP” őŐ÷ úÚ×",
            r"aAä sSđ dDĐ fF[ gG] hHħ jJí kKł lLŁ éÉ$ áÁß űŰ¤",
            r"íÍ< yY> xX# cC& vV@ bB{ nN} mM< ,?; .:> -_*",
        ],
    },
    Layout {
        name: "it",
        rows: [
            r#"\|¬ 1!¹ 2"² 3£³ 4$¼ 5%½ 6&¬ 7/{ 8([ 9)] 0=} '?` ì^~"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ yY← uU↓ iI→ oOø pPþ èé[ +*]",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł òç@ à°# ù§◌`",
            r"<>« zZ« xX» cC¢ vV“ bB” nNñ mMµ ,;◌´ .:· -_◌¯",
        ],
    },
    Layout {
        name: "latam",
        rows: [
            r#"|°¬ 1!| 2"@ 3#· 4$~ 5%½ 6&¬ 7/{ 8([ 9)] 0=} '?\ ¿¡◌¸"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ yY← uU↓ iI→ oOø pPþ ◌´◌¨ +*~",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł ñÑ~ {[◌^ }]◌`",
            r"<>\ zZ« xX» cC¢ vV„ bB“ nN” mMµ ,;• .:· -_",
        ],
    },
    Layout {
        name: "nl",
        rows: [
            r#"@§¬ 1!¹ 2"² 3#³ 4$¼ 5%½ 6&¾ 7_£ 8({ 9)} 0'° /?\ °◌~◌¸"#,
            r"qQ@ wWſ eE€ rR¶ tTþ yYÿ uUü iIï oOò pP¶ ◌¨◌^~ *|◌~",
            r"aAá sSß dDð fFª gGŋ hHħ jJ kKĸ lLł +±◌´ ◌´◌`' <>◌`",
            r"][| zZ« xX» cC¢ vV“ bB” nNñ mMμ ,;¸ .:· -=",
        ],
    },
    Layout {
        name: "no",
        rows: [
            r#"|§¦ 1!¡ 2"@ 3#£ 4¤$ 5%½ 6&¥ 7/{ 8([ 9)] 0=} +?± \◌`◌´"#,
            r"qQ@ wWſ eE€ rR® tTþ yY← uU↓ iI→ oOœ pPπ åÅ◌¨ ◌¨◌^◌~",
            r"aAª sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł øØ◌´ æÆ◌^ '*◌˝",
            r"<>½ zZ« xX» cC© vV„ bB“ nN” mMµ ,;◌¸ .:… -_–",
        ],
    },
    Layout {
        name: "pl",
        rows: [
            r"`~¬ 1!≠ 2@² 3#³ 4$¢ 5%€ 6^½ 7&§ 8*· 9(« 0)» -_– =+◌¸",
            r"qQπ wWœ eEę rR© tTß yY← uU↓ iI→ oOó pPþ [{◌¨ ]}◌~",
            r#"aAą sSś dDð fFæ gGŋ hH’ jJə kK… lLł ;:◌´ '"◌^ \|◌`"#,
            r"<>| zZż xXź cCć vV„ bB” nNń mMµ ,<≤ .>≥ /?",
        ],
    },
    Layout {
        name: "pt",
        rows: [
            r#"\|¬ 1!¹ 2"@ 3#£ 4$§ 5%½ 6&¬ 7/{ 8([ 9)] 0=} '?\ «»◌¸"#,
            r"qQ@ wWſ eE€ rR¶ tTŧ yY← uU↓ iI→ oOø pPþ +*◌¨ ◌´◌`◌~",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł çÇ◌´ ºª◌^ ◌~◌^◌`",
            r"<>\ zZ« xX» cC¢ vV„ bB“ nN” mMµ ,;• .:· -_",
        ],
    },
    Layout {
        name: "se",
        rows: [
            r#"§½¶ 1!¡ 2"@ 3#£ 4¤$ 5%€ 6&¥ 7/{ 8([ 9)] 0=} +?\ ◌´◌`±"#,
            r"qQ@ wWſ eE€ rR® tTþ yY← uU↓ iI→ oOœ pPþ åÅ◌¨ ◌¨◌^◌~",
            r"aAª sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł öÖø äÄæ '*´",
            r"<>| zZ« xX» cC© vV„ bB“ nN” mMµ ,;◌¸ .:· -_",
        ],
    },
    Layout {
        name: "tr",
        rows: [
            r#""é< 1!> 2'£ 3^# 4+$ 5%½ 6&¾ 7/{ 8([ 9)] 0=} *?\ -_|"#,
            r"qQ@ wW eE€ rR¶ tT₺ yY← uUû ıIî oOô pP ğĞ◌¨ üÜ~",
            r"aAâ sSß dD fFª gG hH jJ kK lL şŞ´ iİ' ,;`",
            r"<>| zZ« xX» cC¢ vV„ bB“ nN” mMµ öÖ× çÇ· .:◌˙",
        ],
    },
    Layout {
        name: "uk",
        rows: [
            r#"`¬| 1!¹ 2"² 3£³ 4$€ 5%½ 6^¾ 7&{ 8*[ 9(] 0)} -_\ =+◌¸"#,
            r"qQ@ wWſ eE rR¶ tTŧ yY← uU↓ iI→ oOø pPþ [{◌¨ ]}◌~",
            r"aAæ sSß dDð fFđ gGŋ hHħ jJ kKĸ lLł ;:◌´ '@◌^ #~◌`",
            r"\| zZ« xX» cC¢ vV„ bB“ nN” mMµ ,<• .>· /?",
        ],
    },
];
