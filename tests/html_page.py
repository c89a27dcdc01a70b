"""Reads a page that rsjax wrote: balanced tags, no script, tables by the name of their row."""

import html.parser

VOID = {"meta", "img", "br", "wbr", "input"}


class Page(html.parser.HTMLParser):
    """A page's links, its text, and {first cell: [{text, value}, ...]} of the rows of tables."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open, self.links, self.rows, self.text = [], [], {}, []
        self.begin()
        self.feed(text)
        self.close()
        assert self.open == []
        self.all = " ".join(self.text)

    def begin(self):
        """For pages of which more is read."""

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.links += [attrs[name] for name in ("src", "href") if name in attrs]
        assert tag not in ("script", "link")
        if tag == "tr":
            self.row = []
        elif tag in ("th", "td"):
            self.row.append({"text": "", "value": None})
        elif tag == "data" and "tr" in self.open:
            self.row[-1]["value"] = float(attrs["value"])
        if tag == "img":
            assert attrs["alt"]
        if tag == "th":
            assert attrs["scope"] in ("col", "row")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "tr":
            self.rows[self.row[0]["text"]] = self.row[1:]

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.text.append(data)
        if "tr" in self.open and self.open[-1] != "tr":
            self.row[-1]["text"] += data
