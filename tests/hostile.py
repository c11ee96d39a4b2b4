"""Texts that nobody should trust."""

HOSTILE = {
    "markup": "</td></table></main><h1>owned</h1><img src=x onerror=alert(1)>",
    "script": "</script></style></pre><script>alert(1)</script><!--",
    "quotes": '" onmouseover="alert(1)" x=\'y\' `z` {{ 7 * 7 }} {% raw %} &amp; &#60;b&#62;',
    "long": "x" * 5_000,
    "right to left": "\u202e\u2067\u05d0\u05d1\u05d2 \u0627\u0628 txt",
    "control": "a\x00b\x07c\x1b[31m\x7f\x85\ufffe",
}
UNPRINTABLE = "\u202e\u2067\x00\x07\x1b\x7f\x85\ufffe"
