// Bounds of graph edit distances by a method of GEDLIB, every edit at a cost of 1; benchmarks/graph_edit.py runs it.
//
//     gedlib_driver METHOD "OPTIONS" < FILE
//
// FILE: how many graphs; of each how many nodes and edges, the nodes' kinds, and two ends and the kind of each edge;
// how many pairs, and the two graphs of each, counted from 0. Printed are the seconds that the method's own preparation
// of the graphs took, and of each pair the lower bound, the upper one and the seconds; all are processor time.

#include <cstdio>
#include <ctime>
#include <iostream>
#include <map>
#include <string>
#include <vector>

#include "src/env/ged_env.hpp"

using Method = ged::Options::GEDMethod;

double seconds() {
    timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return now.tv_sec + 1e-9 * now.tv_nsec;
}

int main(int count, char** words) {
    const std::map<std::string, Method> methods{
        {"NODE", Method::NODE}, {"STAR", Method::STAR}, {"HED", Method::HED}, {"BIPARTITE", Method::BIPARTITE},
        {"BRANCH", Method::BRANCH}, {"BRANCH_FAST", Method::BRANCH_FAST}, {"BRANCH_TIGHT", Method::BRANCH_TIGHT},
        {"REFINE", Method::REFINE}, {"IPFP", Method::IPFP}, {"ANCHOR_AWARE_GED", Method::ANCHOR_AWARE_GED},
    };
    if (count != 3 || !methods.count(words[1])) {
        std::cerr << "usage: gedlib_driver METHOD OPTIONS < FILE\n";
        return 2;
    }
    std::cout.setstate(std::ios::failbit);  // GEDLIB's solver writes to it whenever a float's slack isn't quite 0
    ged::GEDEnv<int, int, int> env;
    env.set_edit_costs(ged::Options::EditCosts::CONSTANT, {1, 1, 1, 1, 1, 1});
    int graphs, pairs;
    std::cin >> graphs;
    for (int g = 0; g < graphs; g++) {
        int nodes, edges, kind, tail, head;
        const auto id = env.add_graph();
        std::cin >> nodes >> edges;
        for (int i = 0; i < nodes; i++) {
            std::cin >> kind;
            env.add_node(id, i, kind);
        }
        for (int e = 0; e < edges; e++) {
            std::cin >> tail >> head >> kind;
            env.add_edge(id, tail, head, kind, false);
        }
    }
    env.init(ged::Options::InitType::EAGER_WITHOUT_SHUFFLED_COPIES);
    env.set_method(methods.at(words[1]), words[2]);
    double begin = seconds();
    env.init_method();
    std::printf("%.9f\n", seconds() - begin);
    std::cin >> pairs;
    for (int p = 0; p < pairs; p++) {
        std::size_t g, h;
        std::cin >> g >> h;
        begin = seconds();
        env.run_method(g, h);
        const double took = seconds() - begin;
        std::printf("%.9g %.9g %.9f\n", env.get_lower_bound(g, h), env.get_upper_bound(g, h), took);
    }
    return std::cin ? 0 : 1;
}
