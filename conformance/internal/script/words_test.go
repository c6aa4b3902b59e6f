package script

import "testing"

func TestLiteral_TextsAndCounters_AreBytes(t *testing.T) {
	for in, want := range map[string]string{
		"set 'k' 'v'*3":     "set 6b 767676",
		"get @'n'/'k'":      "get @6e/6b",
		"set '' 'a b'":      "set - 612062",
		"get {5}":           "get 0500000000000000",
		"get {-1}":          "get ffffffffffffffff",
		"get 'x'*0|'y'":     "get -|79",
		"open slab='other'": "open slab=6f74686572",
	} {
		if got := literal(in); got != want {
			t.Errorf("%s: %s, not %s", in, got, want)
		}
	}
}

func TestMatch_Patterns_HoldOrNot(t *testing.T) {
	for _, c := range []struct {
		patterns, words []string
		want            bool
	}{
		{[]string{"ok"}, []string{"ok"}, true},
		{[]string{"ok"}, []string{"ok", "1"}, false},
		{[]string{"ok", "_"}, []string{"ok"}, false},
		{[]string{"ok", "*"}, []string{"ok"}, true},
		{[]string{"ok", "*"}, []string{"ok", "1", "2"}, true},
		{[]string{"*"}, nil, true},
		{[]string{"$new", "$new"}, []string{"5", "5"}, true},
		{[]string{"$new", "$new"}, []string{"5", "6"}, false},
		{[]string{"$new", "$new+1"}, []string{"5", "6"}, true},
		{[]string{"$new"}, []string{""}, false},
		{[]string{"$ten"}, []string{"11"}, false},
		{[]string{"$ten-3..$ten+3"}, []string{"7"}, true},
		{[]string{"$ten-3..$ten+3"}, []string{"13"}, true},
		{[]string{"$ten-3..$ten+3"}, []string{"14"}, false},
		{[]string{"1..2"}, []string{"x"}, false},
		{[]string{"a|b|$ten"}, []string{"10"}, true},
		{[]string{"a|b|$ten"}, []string{"c"}, false},
		{[]string{"a|$unmet"}, []string{"c"}, false},
	} {
		v := vars{"ten": "10"}
		if err := v.match(c.patterns, c.words); (err == nil) != c.want {
			t.Errorf("%v with %v: %v", c.patterns, c.words, err)
		}
	}
}

func TestParse_BrokenScripts_AreRefused(t *testing.T) {
	for _, text := range []string{"| row", "get ->", "-> ok"} {
		if steps, err := parse(text); err == nil {
			t.Errorf("%q: %v", text, steps)
		}
	}
	steps, err := parse("# nothing\n1: ~ get 'k'  # and why\n| a\n|\nM: open\n= -> ok")
	if err != nil || len(steps) != 3 || steps[0].who != 1 || steps[0].how != '~' || len(steps[0].rows) != 1 || steps[1].who != maker || steps[2].how != '=' {
		t.Errorf("%+v, %v", steps, err)
	}
}
