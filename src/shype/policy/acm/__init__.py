"""sHype's own policies: the XML of Xen's Access Control Module, 2005 to 2011, in and out.

Reading: `xml` (text to elements), `reader` and `specification` (elements to an
`AcmPolicy`), `meaning` (what the module would have decided by), `importer` (the
same in shype's language) and `writer` (its text).  Writing: `exporter`.
"""
