"""Files that tests drop on the console."""

HANDBOOK = (
    "Handbook of the rowing club",
    "",
    "The boathouse opens at six in the morning from April to October, and at eight in winter.",
    "The oars are oiled on the first Sunday of March, before the boats go back into the water.",
    "A coxswain checks the rudder and the bow ball before each outing and signs the log book.",
    "The trireme Olympias is rowed by 170 people on three levels and needs a week of training.",
    "Visitors may row with a member as a guest three times a year; a day's fee is twelve euros.",
)
QUESTION = "When are the oars oiled?"
ANSWER = "first Sunday of March"


def pdf(*lines):
    """A valid PDF of one page with these lines."""
    rows = " ".join(f"({line}) Tj T*" for line in lines)
    stream = f"BT /F1 11 Tf 16 TL 56 780 Td {rows} ET"
    objects = (
        "<< /Type /Catalog /Pages 2 0 R >>",
        "<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 5 0 R"
        " /Resources << /Font << /F1 3 0 R >> >> >>",
        f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
    )
    out, offsets = "%PDF-1.4\n", []
    for number, body in enumerate(objects, 1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(out)}\n%%EOF\n"
    return (out + f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}" + end).encode()
